"""The shipped table is sound, and mistakes in a table or a name are explained."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.hub import catalog

TABLE = catalog.table()
SHA = "0" * 64


def test_default_models_come_from_packages_and_are_checked() -> None:
    for name in ("efficientdet-lite0", "blazepose-full", "blazepose-detector"):
        model = catalog.get(name)
        assert model.runtime == "openvino"
        assert all(file.package and file.sha256 for file in model.files)


def test_aliases_lead_to_models() -> None:
    assert catalog.get("damo/cv_hdformer_body-3d-keypoints_video").name == "hdformer"
    assert catalog.get("damo/cv_canonical_body-3d-keypoints_video").name == "tpnet"
    assert catalog.get("damo/cv_hrnetv2w32_body-2d-keypoints_image").name == "hrnet-body15"
    assert catalog.get("pretrained_h36m_cpn.bin").licence == "CC-BY-NC-4.0"


def test_every_torch_checkpoint_has_a_network() -> None:
    assert [model.name for model in TABLE.model if model.runtime == "numpy"] == ["tcn-streamkp"]  # runs itself
    others = {model.name: model.network for model in TABLE.model if model.runtime != "torch" and model.network}
    # run by OpenVINO, or by torch
    assert others == {"hdformer-streamkp": "streamkp.models.networks.hdformer:HDFormer"}


def test_skeletons_are_known() -> None:
    for model in TABLE.model:
        for name in (model.skeleton, model.input_skeleton):
            assert name is None or name in skeletons.SKELETONS
        assert (model.skeleton is None) == (model.task in ("person-detection", "hand-detection", "hand-gestures"))


def test_mmpose_file_names_carry_their_checksum() -> None:
    named = [file for model in TABLE.model for file in model.files if file.sha256_prefix]
    assert len(named) == 10
    assert all(f"-{file.sha256_prefix}_" in file.name for file in named)
    assert all(file.name in str(file.url) for file in named)


def test_published_figures_have_a_source() -> None:
    assert all(model.page for model in TABLE.model if model.published)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("blazepose_full", "blazepose-full"), ("BlazePose-Full", "blazepose-full"), ("hdfromer", "hdformer")],
)
def test_unknown_name_suggests_near_ones(asked: str, meant: str) -> None:
    with pytest.raises(ModelError, match=rf"no model named '{asked}'; did you mean .*{meant}"):
        catalog.get(asked)


def test_hopeless_name_points_to_the_list() -> None:
    with pytest.raises(ModelError, match="see `streamkp models list`"):
        catalog.get("zzzzzzzzzz")
    with pytest.raises(ModelError, match="no sample clip named 'wlak'; did you mean walk"):
        TABLE.get_sample("wlak")


def test_digests() -> None:
    full = catalog.File(name="a", url="https://h/a", sha256=SHA)
    prefix = catalog.File(name="a", url="https://h/a", sha256_prefix="0" * 8)
    free = catalog.File(name="a", url="https://h/a")
    assert full.accepts(SHA)
    assert not full.accepts("1" * 64)
    assert prefix.accepts("0" * 8 + "f" * 56)
    assert not prefix.accepts("f" * 64)
    assert free.accepts("f" * 64)
    assert [file.checked for file in (full, prefix, free)] == [True, True, False]


MODEL = """
[[model]]
name = "m"
title = "t"
task = "person-detection"
licence = "l"
author = "a"
family = "some.module"
files = [{files}]
"""


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ('{ name = "a" }', "exactly one of"),
        ('{ name = "a", url = "https://h/a", bundled = "a" }', "exactly one of"),
        ('{ name = "a", url = "http://h/a" }', "https://"),
        ('{ name = "a", package = "p" }', "package and member"),
        ('{ name = "a", package = "p", member = "a" }', "no package p"),
        ('{ name = "../a", url = "https://h/a" }', "pattern"),
        ('{ name = "a/b", url = "https://h/a" }', "pattern"),
        ('{ name = "a", url = "https://h/a", sha256 = "abc" }', "pattern"),
        ('{ name = "a", url = "https://h/a", hash = "abc" }', "Extra inputs"),
        ("", "at least 1"),
    ],
)
def test_unsound_tables_are_refused(files: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        catalog.parse(MODEL.replace("{files}", files))


def test_one_name_for_two_models_is_refused() -> None:
    row = MODEL.replace("{files}", '{ name = "a", url = "https://h/a" }')
    with pytest.raises(ValidationError, match="m stands for two entries"):
        catalog.parse(row + row)


def test_the_catalog_needs_no_torch() -> None:
    code = "import sys, streamkp.hub.store, streamkp.cli.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
