"""How each 2D network is fed and read: what its weights alone do not tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.hub import catalog
from streamkp.models import zoo
from streamkp.models.pose2d.face106 import Face106Estimator
from streamkp.models.pose2d.topdown import (
    AffineFraming,
    Body15Framing,
    Decode,
    Framing,
    HeatmapReader,
    SimccReader,
    TopDownEstimator,
)
from streamkp.runtimes.image_networks import Device, Runtime, open_runner
from streamkp.runtimes.openvino import OpenVinoModel
from streamkp.vision import body15, face_crop, heatmap


@dataclass(frozen=True)
class Recipe:
    """A torch network of the zoo, what it finds, the (width, height) it was trained with, and how it is read."""

    network: str
    skeleton: str
    size: tuple[int, int]
    reading: Literal["body15", "quarter", "dark", "face"]
    blur: int = 11  # of DARK, in heatmap pixels

    @property
    def framing(self) -> Framing:
        """How crops are made."""
        return Body15Framing() if self.reading == "body15" else AffineFraming(self.size)

    @property
    def decode(self) -> Decode:
        """How heatmaps are read."""
        if self.reading == "body15":
            return body15.decode
        if self.reading == "quarter":
            return partial(heatmap.decode_quarter, input_size=self.size)
        return partial(heatmap.decode_dark, input_size=self.size, blur_kernel=self.blur)


RECIPES = {
    "hrnet-body15": Recipe("hrnet-body15", "body15", (body15.INPUT, body15.INPUT), "body15"),
    "hrnet-w32-coco17": Recipe("hrnet-w32-coco17", "coco17", (192, 256), "quarter"),
    "hrnet-w48-wholebody133": Recipe("hrnet-w48-wholebody133", "wholebody133", (288, 384), "dark"),
    "hrnet-w48-wholebody133-easycv": Recipe("hrnet-w48-wholebody133", "wholebody133", (288, 384), "dark", blur=17),
    "hrnet-w18-hand21": Recipe("hrnet-w18-hand21", "hand21", (256, 256), "dark"),
    "hrnet-w18-hand21-easycv": Recipe("hrnet-w18-hand21", "hand21", (256, 256), "dark"),
    "mobilenetv2-face106": Recipe("mobilenetv2-face106", "face106", (face_crop.INPUT, face_crop.INPUT), "face"),
}
_SIMCC_SKELETONS = {len(skeletons.get(name)): name for name in ("coco17", "wholebody133", "hand21")}


def recipe_of(model: str) -> Recipe | None:
    """The recipe of a catalog name or alias; None for anything else."""
    try:
        return RECIPES.get(catalog.get(model).name)
    except ModelError:
        return None


def open_torch(
    model: str,
    checkpoint: Path,
    recipe: Recipe | None,
    *,
    device: Device,
    runtime: Runtime,
    threads: int,
    precision: str,
    batch: int,
    flip: bool,
) -> TopDownEstimator | Face106Estimator:
    """A torch network as an estimator; without a recipe the keys of the weights say which. Raises `ModelError`."""
    recipe = recipe or _recognised(model, checkpoint)
    if flip and recipe.reading == "face":
        raise ModelError(f"{model} is not a heatmap network: leave out flip")
    width, height = recipe.size
    run = open_runner(
        recipe.network,
        checkpoint,
        (3, height, width),
        device=device,
        runtime=runtime,
        threads=threads,
        precision=precision,
        batch=batch,
    )
    if recipe.reading == "face":
        return Face106Estimator(model, run)
    mirror = skeletons.get(recipe.skeleton).mirror if flip else None
    return TopDownEstimator(model, recipe.skeleton, recipe.framing, HeatmapReader(run, recipe.decode, mirror))


def open_simcc(model: str, read: OpenVinoModel, *, threads: int, precision: str, batch: int) -> TopDownEstimator:
    """An RTMPose file as an estimator. Raises `ModelError` if it finds joints of no skeleton known here."""
    reader = SimccReader(read, threads=threads, precision=precision, batch=batch)
    if reader.joints not in _SIMCC_SKELETONS:
        known = ", ".join(f"{count} ({name})" for count, name in _SIMCC_SKELETONS.items())
        raise ModelError(f"{model} finds {reader.joints} joints; the layouts known for RTMPose have {known}")
    return TopDownEstimator(model, _SIMCC_SKELETONS[reader.joints], AffineFraming(reader.size), reader)


def _recognised(model: str, file: Path) -> Recipe:
    """The recipe of the network that a checkpoint's keys and shapes belong to."""
    networks = list(dict.fromkeys(recipe.network for recipe in RECIPES.values()))
    zoo.require_torch(model)
    from streamkp.models import checkpoint

    weights = checkpoint.read(file)
    for name in networks:
        if zoo.fits(name, weights):
            return RECIPES[name]
    other = [name for name in zoo.NETWORKS if name not in networks and zoo.fits(name, weights)]
    belongs = f"it belongs to {other[0]}" if other else "its keys belong to no network known here"
    raise ModelError(f"{model} is not a 2D pose network: {belongs}; the 2D networks are {', '.join(networks)}")
