"""`streamkp bench`: figures, as ratios taken in one run, since absolute times mean nothing on another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streamkp.graph.graph import Graph

bench_app = typer.Typer(help="Measure speed: of the engine, and of a whole graph beside a peer.", no_args_is_help=True)

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
