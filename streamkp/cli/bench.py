"""`streamkp bench`: figures, as ratios taken in one run, since absolute times mean nothing on another machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamkp.cli.bench_soak import soak
from streamkp.errors import SourceError, UsageError
from streamkp.models import zoo
from streamkp.runtimes.base import Precision

bench_app = typer.Typer(
    help="Measure speed: of the engine, of a whole graph beside a peer, of lifters.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
bench_app.command()(soak)

_CONVOLUTIONS = ("videopose3d-27f", "videopose3d-81f", "videopose3d-243f", "tpnet")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
GraphName = Annotated[str, typer.Option("--graph", help="A graph file or the name of a ready-made graph.")]
VideoSource = Annotated[str, typer.Option("--source", help="A video file, or sample:NAME.")]


@bench_app.command()
def engine(
    graph: GraphName = "demo",
    source: VideoSource = "sample:walk",
    packets: Annotated[int, typer.Option(help="Packets through the graph of empty stages.")] = 50_000,
    as_json: Json = False,
) -> None:
    """Cost of the engine itself: packets per second of six empty stages, and its share of a real graph's CPU time."""
    from streamkp.bench.engine import run

    with _progress(f"empty stages, then {graph}") as advance:
        figures = run(graph, source, packets, advance)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    per_packet = 1e6 / figures["packets_per_s"]
    typer.echo(f"six do-nothing stages     {figures['packets_per_s']:>12,.0f} packets/s ({per_packet:.1f} us each)")
    typer.echo(f"bare loop, same functions {figures['bare_per_s']:>12,.0f} packets/s")
    typer.echo(f"engine's share of CPU time in {graph}: {100 * figures['engine_share']:.2f} %")


@bench_app.command()
def video(
    graph: GraphName = "demo",
    source: VideoSource = "sample:walk",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="stages.detect.every=5 (repeatable).")] = None,
    streams: Annotated[int, typer.Option(min=1, help="Play the clip this many times at once.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Repetitions, alternating with the peer.")] = 3,
    vs: Annotated[str | None, typer.Option(help="Compare with: mediapipe.")] = None,
    peer_python: Annotated[Path | None, typer.Option(help="The interpreter that has the peer installed.")] = None,
    decode_for_peer: Annotated[
        bool, typer.Option("--decode-for-peer", help="Hand the peer the pixels that streamkp sees (one stream).")
    ] = False,
    profile: Annotated[bool, typer.Option(help="Print where the time goes.")] = False,
    as_json: Json = False,
) -> None:
    """Frames per second, latency, CPU and memory of a graph on a clip, and the ratio to a peer."""
    from streamkp.bench.video import run

    clip = str(_video_file(source))
    figures = run(
        graph,
        clip,
        overrides=overrides or [],
        streams=streams,
        runs=runs,
        peer=vs,
        peer_python=peer_python,
        decode_for_peer=decode_for_peer,
        bare=profile,
    )
    if profile:
        from streamkp.bench import graphs, parts

        spec = graphs.validated(graph, overrides or [])
        figures["profile_ms"] = parts.run(spec, clip, figures["cpu_ms_per_frame"])
    typer.echo(json.dumps(figures)) if as_json else _print(figures)


@bench_app.command()
def fleet(
    graph: GraphName = "rtsp-fleet",
    source: VideoSource = "sample:walk",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="stages.detect.every=5 (repeatable).")] = None,
    rate: Annotated[float | None, typer.Option(min=1, help="Frames a second of each stream; the clip's own.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement.")] = 10.0,
    p95: Annotated[float, typer.Option("--p95", min=1, help="Most milliseconds from capture to sink.")] = 150.0,
    dropped: Annotated[float, typer.Option(min=0, help="Most dropped frames, percent.")] = 1.0,
    most: Annotated[int, typer.Option(min=1, help="Stop at this many streams.")] = 256,
    engine: Annotated[
        Literal["threads", "nodes", "ray"],
        typer.Option(
            help="nodes, ray: what 1, 2 and 3 nodes cost, and how long control takes; they share this machine."
        ),
    ] = "threads",
    as_json: Json = False,
) -> None:
    """How many live cameras this machine carries, and what limits it: streams are added until frames come late."""
    if engine != "threads":
        _fleet_nodes(engine, as_json)
        return
    from streamkp.bench import fleet as bench

    console = Console(stderr=as_json)
    shown = False

    def show(step: bench.Step) -> None:
        nonlocal shown
        if as_json:
            return
        if not shown:
            console.print("streams  frames/s   p50 ms   p95 ms  dropped %  cores", highlight=False)
        shown = True
        p50, p95 = ("-" if ms is None else f"{ms:.1f}" for ms in (step.p50_ms, step.p95_ms))
        console.print(
            f"{step.streams:7}  {step.fps:8.1f} {p50:>8} {p95:>8}  {100 * step.dropped:9.2f}  {step.cpu_cores:5.2f}",
            highlight=False,
        )

    figures = bench.run(
        graph,
        _video_file(source),
        overrides=overrides or [],
        rate=rate,
        seconds=seconds,
        limits=bench.Limits(p95, dropped / 100),
        most=most,
        progress=show,
    )
    if as_json:
        typer.echo(json.dumps(figures))
        return
    console.print(f"carried: {figures['carried']} streams of {graph}", highlight=False)
    limit = figures["first_limit"]
    text = f"one more: {limit}" if limit else "nothing gave out: --most ended the search"
    console.print(text, highlight=False, soft_wrap=True)


def _fleet_nodes(engine: Literal["nodes", "ray"], as_json: bool) -> None:
    from streamkp.bench import fleet_nodes as bench

    console = Console(stderr=as_json)
    if not as_json:
        console.print(
            "the nodes share this machine's cores: this is what a node costs, not what several machines carry\n"
            "nodes  streams   up s  MB a node  CPU % a node  move ms  failure s",
            highlight=False,
        )

    def show(figures: dict[str, Any]) -> None:
        if not as_json:
            move, failure = figures.get("move_ms", "-"), figures.get("failure_s", "-")
            console.print(
                f"{figures['nodes']:5}  {figures['streams']:7}  {figures['up_s']:5.1f}  {figures['node_memory_mb']:9}"
                f"  {figures['node_cpu_percent']:12.1f}  {move:>7}  {failure:>9}",
                highlight=False,
            )

    found = bench.run(engine, (1, 2, 3), show)
    if as_json:
        typer.echo(json.dumps(found))


@bench_app.command()
def lifter(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Convolution networks (they need torch), tcn-streamkp, hdformer-streamkp or a file like them; all."
        ),
    ] = None,
    people: Annotated[int, typer.Option(min=1, help="People in one call, beside one alone.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of each form, taking turns.")] = 15,
    as_json: Json = False,
) -> None:
    """What a new frame costs a lifter: frame by frame and by the whole window, or by a window every so many frames."""
    from streamkp.bench import stride

    names = models or [*stride.MODELS, *(_CONVOLUTIONS if find_spec("torch") else ())]
    whole = [name for name in names if name in stride.MODELS or name.endswith((".onnx", ".safetensors"))]
    convolutions = [name for name in names if name not in whole]
    if unknown := sorted(set(convolutions) - set(_CONVOLUTIONS)):
        able = ", ".join([*_CONVOLUTIONS, *stride.MODELS])
        raise UsageError(f"{', '.join(unknown)} cannot be measured here; those that can: {able}")
    figures: dict[str, Any] = {}
    if convolutions:
        zoo.require_torch(convolutions[0])
        from streamkp.bench import lifter as bench

        with _progress(", ".join(convolutions), len(convolutions)) as advance:
            figures |= bench.run(convolutions, people, threads, rounds, advance)
    strides = {}
    for name in whole:
        with _progress(name) as advance:
            strides[name] = stride.run(name, people, threads, rounds, advance)
    if as_json:
        typer.echo(json.dumps(figures | strides))
        return
    if figures:
        _print_lifters(figures)
    if strides:
        _print_strides(strides)


@bench_app.command()
def swaps(
    sources: Annotated[list[str], typer.Argument(help="Recordings (.jsonl, .jsonl.gz) of raw 2D, or videos.")],
    as_json: Json = False,
) -> None:
    """What the left/right swap filter does: crossed limbs and jumps of 2D keypoints without it and with it."""
    from streamkp.bench import swaps as bench

    rows = [bench.run(source) for source in sources]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    kinds = list(rows[0]["without"])
    table = Table(
        "source", "poses", *kinds, title="crossings and jumps, without -> with the filter", title_justify="left"
    )
    for row in rows:
        changes = [f"{row['without'][kind]} -> {row['with'][kind]}" for kind in kinds]
        table.add_row(row["source"], str(row["poses"]), *changes)
    Console().print(table)


@contextmanager
def _progress(what: str, total: float = 1.0) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, drawn only when it is advanced: no thread of its own takes part in what is measured."""
    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task(what, total=total)
        progress.refresh()

        def advance(share: float) -> None:
            progress.advance(task, share)
            progress.refresh()

        yield advance


def _compact(*columns: str, title: str) -> Table:
    """A table without a grid, for many columns in a narrow terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, heading in enumerate(columns):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _print_lifters(figures: dict[str, dict[str, Any]]) -> None:
    title = (
        "ms per person and frame: by the whole window (dilated, one-frame form), frame by frame (newest, middle pose)"
    )
    table = _compact("", *figures, title=title)  # models in columns: forms and ratios do not fit a terminal
    table.add_row("window, frames", *(str(of["frames"]) for of in figures.values()))
    for people in next(iter(figures.values()))["ms"]:
        table.add_row()
        table.add_row(f"{people} at once" if people > 1 else "one person")
        every = [of["ms"][people] for of in figures.values()]
        for form, label in (
            ("window", "window"),
            ("strided", "one-frame form"),
            ("newest", "newest"),
            ("middle", "middle"),
        ):
            table.add_row(label, *(f"{ms[form]:.2f}" for ms in every))
        for form in ("newest", "middle"):
            table.add_row(f"window / {form}", *(f"{ms['window'] / ms[form]:.1f}" for ms in every))
    console = Console()
    console.print(table)
    worst = max(of["difference"] for of in figures.values())
    console.print(f"random weights with a seed; the poses differ by at most {worst:.1e}", highlight=False, markup=False)


def _print_strides(figures: dict[str, dict[str, Any]]) -> None:
    strides = sorted({stride for of in figures.values() for stride in of["ms"][1]})
    title = (
        "ms per person and frame of the lifter's own rate, by frames from one run to the next; in brackets, of a core"
    )
    table = _compact("model", "frames", "people", *(f"stride {stride}" for stride in strides), title=title)
    for name, of in figures.items():
        for people, ms in of["ms"].items():
            core = of["core_ms"][people]
            times = (f"{ms[stride]:.2f} ({core[stride]:.2f})" if stride in ms else "-" for stride in strides)
            table.add_row(name, str(of["frames"]), str(people), *times)
    Console().print(table)


def _print(figures: dict[str, Any]) -> None:
    peer = "peer" in figures
    columns = ("figure", "streamkp", figures["peer"]) if peer else ("figure", "streamkp")
    table = Table(*columns, title=figures["source"], title_justify="left")
    table.add_row("frames/s", f"{figures['fps']:.1f}", *([f"{figures['peer_fps']:.1f}"] if peer else []))
    for name in ("p50", "p95", "p99"):
        theirs = [f"{figures['peer_latency_ms'][name]:.1f}"] if peer else []
        table.add_row(f"latency {name} ms", f"{figures['latency_ms'][name]:.1f}", *theirs)
    table.add_row("CPU", f"{figures['cpu_percent']:.0f} % ({figures['cpu_ms_per_frame']:.1f} ms a frame)")
    table.add_row("peak memory", f"{figures['peak_memory_mb']:.0f} MB")
    console = Console()
    console.print(table)
    if peer:
        spread = ", ".join(f"{r:.2f}" for r in figures["ratios"])
        console.print(f"ratio in frames/s: {figures['ratio']:.2f} (runs: {spread})", highlight=False, markup=False)
        both = figures["frames_both"]
        if figures["agreement"] is not None:
            share = 100 * figures["agreement"]
            console.print(
                f"keypoints differ by {share:.2f} % of the box, mean of {both} frames", highlight=False, markup=False
            )
        console.print(
            f"frames with a person: both {both}, streamkp only {figures['frames_ours_only']}, "
            f"peer only {figures['frames_peer_only']}",
            highlight=False,
            markup=False,
        )
    if "bare_fps" in figures:
        more = figures["cpu_ms_per_frame"] / figures["bare_cpu_ms_per_frame"] - 1
        console.print(
            f"the networks in a loop without an engine: {figures['bare_fps']:.1f} frames/s, "
            f"{figures['bare_cpu_ms_per_frame']:.1f} ms of CPU a frame; the graph takes {100 * more:.0f} % more CPU",
            highlight=False,
            markup=False,
        )
    for part, ms in figures.get("profile_ms", {}).items():
        console.print(f"{part:>24}: {ms:6.2f} ms of CPU a frame", highlight=False, markup=False)


@bench_app.command()
def gpu(
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all parts together.")] = 5.0,
    device: Annotated[str, typer.Option(help="cuda, cuda:1, or cpu to try the same code without a GPU.")] = "cuda",
    source: Annotated[str | None, typer.Option(help="A clip or image with a person, or sample:NAME.")] = None,
    precision: Annotated[str, typer.Option(help="Arithmetic of most parts: f32, tf32, f16 or bf16.")] = "f16",
    batches: Annotated[str, typer.Option(help="Batch sizes to measure.")] = "1,2,4,8,16,32,64,128,256",
    streams: Annotated[str, typer.Option(help="Numbers of cameras to try.")] = "1,8,16,32,48,64,96,128,192",
    size: Annotated[str, typer.Option(help="Width x height of the cameras' frames.")] = "1280x720",
    part: Annotated[list[str] | None, typer.Option(help="Only this part (repeatable).")] = None,
    parity: Annotated[str, typer.Option(help="Precisions to compare with f32 on the CPU.")] = "f32,f16",
    tune: Annotated[bool, typer.Option("--tune", help="Let cuDNN try all its kernels, which takes minutes.")] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="Try torch.compile too, which takes minutes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line as each part is done.")] = False,
) -> None:
    """What a GPU gives: parity with the CPU, rates by batch beside the card's ceilings, live streams end to end."""
    zoo.require_torch("bench gpu")
    import torch

    from streamkp.bench import gpu as bench
    from streamkp.hub import store

    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise UsageError(f"{device} is no device: it is cuda, cuda:1 or cpu")
    if device != "cpu" and int(device[5:] or 0) >= (cards := torch.cuda.device_count()):
        found = f"torch {torch.__version__} finds {cards or 'no'} GPU{'s' if cards > 1 else ''} here"
        raise UsageError(f"bench gpu --device {device}: {found}; --device cpu tries the same code without one")
    if unknown_parts := sorted(set(part or ()) - set(bench.PARTS)):
        raise UsageError(f"{unknown_parts[0]} is no part of bench gpu: they are {', '.join(bench.PARTS)}")
    if "compiled" in (part or ()) and not compile_:
        raise UsageError("the part compiled needs --compile")

    width, _, height = size.partition("x")
    try:
        numbers = [sorted({int(n) for n in text.split(",")}) for text in (batches, streams)]
        pixels = int(width), int(height)
    except ValueError:
        raise UsageError(
            "--batches and --streams are numbers with commas between them, --size is like 1280x720"
        ) from None
    if min(*pixels, *numbers[0], *numbers[1]) < 1 or pixels[0] % 2 or pixels[1] % 2:
        raise UsageError("--batches and --streams are at least 1, the two numbers of --size even")
    if unknown := {precision, *parity.split(",")} - set(get_args(Precision)):
        raise UsageError(f"{sorted(unknown)[0]} is no precision: they are {', '.join(get_args(Precision))}")
    options = bench.Options(
        models={name: store.path(name) for name in bench.MODELS},
        device=device,
        source=None if source is None else _video_file(source),
        seconds=minutes * 60,
        batches=numbers[0],
        precision=cast(Precision, precision),
        stream_counts=numbers[1],
        size=pixels,
        compiled=compile_,
        tuned=tune,
        parity=cast(list[Precision], parity.split(",")),
        parts=part or (),
    )
    failed = False
    for figures in bench.run(options):
        failed |= "error" in figures or figures.get("ok") is False
        if "step" in figures and not as_json:
            continue
        typer.echo(json.dumps(figures) if as_json else _indented(figures))
    if failed:
        raise typer.Exit(1)


def _video_file(source: str) -> Path:
    from streamkp.sources.decode import local_file

    if "://" in source and not source.lower().startswith("file:"):  # the address may hold a password
        raise UsageError("--source is a video file or sample:NAME: a benchmark plays the same frames again and again")
    clip = local_file(source, source)
    if not clip.is_file():
        raise SourceError(f"there is no file {clip}; check the path, relative ones start from {Path.cwd()}")
    return clip


def _indented(figures: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump({figures["part"]: {k: v for k, v in figures.items() if k != "part"}}, sort_keys=False)
    return text.rstrip()
