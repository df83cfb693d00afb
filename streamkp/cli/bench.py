"""`streamkp bench`: figures, as ratios taken in one run, since absolute times mean nothing on another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streamkp.errors import UsageError
from streamkp.graph.graph import Graph
from streamkp.models import zoo

bench_app = typer.Typer(
    help="Measure speed: of the engine, of a whole graph beside a peer, of lifters.", no_args_is_help=True
)

_CONVOLUTIONS = ("videopose3d-27f", "videopose3d-81f", "videopose3d-243f", "tpnet")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
GraphName = Annotated[str, typer.Option("--graph", help="A graph file or the name of a ready-made graph.")]
Clip = Annotated[str, typer.Option("--source", help="A video file, or sample:NAME.")]


@bench_app.command()
def engine(
    graph: GraphName = "demo",
    source: Clip = "sample:walk",
    packets: Annotated[int, typer.Option(help="Packets through the do-nothing graph.")] = 50_000,
    as_json: Json = False,
) -> None:
    """What the engine itself costs: six stages that do nothing, and its share of CPU time in a real graph."""
    from streamkp.bench.engine import run

    figures = run(graph, source, packets)
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
    source: Clip = "sample:walk",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="stages.detect.every=5 (repeatable).")] = None,
    streams: Annotated[int, typer.Option(min=1, help="Play the clip this many times at once.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Repetitions, alternating with the peer.")] = 3,
    vs: Annotated[str | None, typer.Option(help="Compare with: mediapipe.")] = None,
    peer_python: Annotated[Path | None, typer.Option(help="The interpreter that has the peer installed.")] = None,
    profile: Annotated[bool, typer.Option(help="Print where the time goes.")] = False,
    as_json: Json = False,
) -> None:
    """Frames per second, latency, CPU and memory of a graph on a clip, and the ratio to a peer."""
    from streamkp.bench.video import run
    from streamkp.sources.decode import local_file

    clip = str(local_file(source, source))
    figures = run(
        graph,
        clip,
        overrides=overrides or [],
        streams=streams,
        runs=runs,
        peer=vs,
        peer_python=peer_python,
    )
    if profile:
        from streamkp.bench import parts

        spec = Graph.from_yaml(graph, overrides=overrides or []).validate()
        figures["profile_ms"] = parts.run(spec, clip, figures["cpu_ms_per_frame"])
    typer.echo(json.dumps(figures)) if as_json else _print(figures)


@bench_app.command()
def lifter(
    models: Annotated[
        list[str] | None, typer.Argument(help="Convolution networks, hdformer-streamkp or a file like it; all.")
    ] = None,
    people: Annotated[int, typer.Option(min=1, help="People in one call, beside one alone.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of each form, taking turns.")] = 15,
    as_json: Json = False,
) -> None:
    """What a new frame costs a lifter: frame by frame and by the whole window, or by a window every so many frames."""
    from streamkp.bench import stride

    names = models or [*_CONVOLUTIONS, stride.MODEL]
    whole = [name for name in names if name == stride.MODEL or name.endswith(".onnx")]
    convolutions = [name for name in names if name not in whole]
    if unknown := sorted(set(convolutions) - set(_CONVOLUTIONS)):
        able = ", ".join([*_CONVOLUTIONS, stride.MODEL])
        raise UsageError(f"{', '.join(unknown)} cannot be measured here; those that can: {able}")
    figures: dict[str, Any] = {}
    if convolutions:
        zoo.require_torch(convolutions[0])
        from streamkp.bench import lifter as bench

        figures |= bench.run(convolutions, people, threads, rounds)
    strides = {name: stride.run(name, people, threads, rounds) for name in whole}
    if as_json:
        typer.echo(json.dumps(figures | strides))
        return
    if figures:
        _print_lifters(figures)
    if strides:
        _print_strides(strides)


def _print_lifters(figures: dict[str, dict[str, Any]]) -> None:
    columns = ("model", "frames", "people", "window", "one-frame form", "newest", "middle", "window/newest", "/middle")
    title = (
        "ms per person and frame: by the whole window (dilated, one-frame form), frame by frame (newest, middle pose)"
    )
    table = Table(*columns, title=title, title_justify="left")
    for name, of in figures.items():
        for people, ms in of["ms"].items():
            times = [f"{ms[form]:.2f}" for form in ("window", "strided", "newest", "middle")]
            ratios = [f"{ms['window'] / ms[form]:.1f}" for form in ("newest", "middle")]
            table.add_row(name, str(of["frames"]), str(people), *times, *ratios)
    console = Console()
    console.print(table)
    worst = max(of["difference"] for of in figures.values())
    console.print(f"random weights with a seed; the poses differ by at most {worst:.1e}", highlight=False)


def _print_strides(figures: dict[str, dict[str, Any]]) -> None:
    strides = list(next(iter(figures.values()))["ms"][1])
    title = "ms per person and frame of the lifter's own rate, by frames from one run of the network to the next"
    table = Table(
        "model", "frames", "people", *(f"stride {stride}" for stride in strides), title=title, title_justify="left"
    )
    for name, of in figures.items():
        for people, ms in of["ms"].items():
            table.add_row(name, str(of["frames"]), str(people), *(f"{ms[stride]:.2f}" for stride in strides))
    Console().print(table)


def _print(figures: dict[str, Any]) -> None:
    table = Table("figure", "streamkp", figures.get("peer", ""), title=figures["source"], title_justify="left")
    peer = "peer" in figures
    table.add_row("frames/s", f"{figures['fps']:.1f}", f"{figures['peer_fps']:.1f}" if peer else "")
    for name in ("p50", "p95", "p99"):
        theirs = f"{figures['peer_latency_ms'][name]:.1f}" if peer else ""
        table.add_row(f"latency {name} ms", f"{figures['latency_ms'][name]:.1f}", theirs)
    table.add_row("CPU", f"{figures['cpu_percent']:.0f} % ({figures['cpu_ms_per_frame']:.1f} ms a frame)", "")
    table.add_row("peak memory", f"{figures['peak_memory_mb']:.0f} MB", "")
    console = Console()
    console.print(table)
    if peer:
        spread = ", ".join(f"{r:.2f}" for r in figures["ratios"])
        console.print(f"ratio in frames/s: {figures['ratio']:.2f} (runs: {spread})", highlight=False)
        both = figures["frames_both"]
        if figures["agreement"] is not None:
            share = 100 * figures["agreement"]
            console.print(f"keypoints differ by {share:.2f} % of the box, mean of {both} frames", highlight=False)
        console.print(
            f"frames with a person: both {both}, streamkp only {figures['frames_ours_only']}, "
            f"peer only {figures['frames_peer_only']}",
            highlight=False,
        )
    for part, ms in figures.get("profile_ms", {}).items():
        console.print(f"{part:>24}: {ms:6.2f} ms of CPU a frame", highlight=False)
