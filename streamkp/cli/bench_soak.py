"""`streamkp bench soak`: the program under a mix of faults, and what came of it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to break things.")] = 20.0,
    streams: Annotated[int, typer.Option(min=2, max=64, help="Cameras.")] = 8,
    rate: Annotated[float, typer.Option(min=1, max=60, help="Frames a second of each camera.")] = 5.0,
    hold: Annotated[float, typer.Option(min=1, help="Longest fault, seconds; the shortest is half as long.")] = 7.0,
    seed: Annotated[int, typer.Option(help="Of everything random; the same seed breaks the same things.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Without networks: sources and sinks only.")] = False,
    source: Annotated[str, typer.Option("--source", help="The video that the cameras play, or sample:NAME.")] = (
        "sample:walk"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Break cameras, servers, broker and clients of a running graph at random, and see whether it keeps its promises.

    Needs Linux, mosquitto and GStreamer's RTSP server. Exit code 1 if a promise did not hold.
    """
    from streamkp.bench.soak import Options, run
    from streamkp.sources.decode import local_file

    progress = Console(stderr=True, soft_wrap=True)
    options = Options(minutes=minutes, streams=streams, rate=rate, hold=hold, seed=seed, plain=plain)
    figures = run(local_file(source, source), options, lambda line: progress.print(line, highlight=False, markup=False))
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _print(figures)
    if figures["problems"]:
        raise typer.Exit(1)


def _print(figures: dict[str, Any]) -> None:
    typer.echo(
        f"{figures['minutes']:.1f} minutes, {figures['streams']} streams at {figures['rate']:g} fps, "
        f"{figures['rounds']} rounds, seed {figures['seed']}\n\n"
        "                                    to recover, s      messages at QoS 1       p99 of the latency, ms\n"
        "fault                     recovered   p50    p95   lost twice disordered    before  during   after"
    )
    for name, row in figures["faults"].items():
        recovered = f"{row['recovered']}/{row['total']}"
        times = "".join(f"{_number(row[key], 1):>7}" for key in ("recover_p50_s", "recover_p95_s"))
        counts = f"{row['lost']:>7}{row['duplicated']:>6}{row['reordered']:>11}"
        late = "".join(f"{_number(row[f'p99_{when}_ms'], 0):>8}" for when in ("before", "during", "after"))
        typer.echo(f"{name:26}{recovered:>9}{times}{counts}  {late}")
    messages, process = figures["messages"], figures["process"]
    growth = process["memory_mib"]["growth"]
    lines = [
        f"\nmessages at QoS 1: {messages['messages']}, lost {messages['lost']}, twice {messages['duplicated']} (and "
        f"{messages['redelivered']} marked so by the broker), disordered {messages['reordered']}; "
        f"frames dropped and said so {messages['dropped']}",
        *(
            f"{name}: before {process[key]['before']:.0f}{unit}, after {process[key]['after']:.0f}{unit}, "
            f"most {process[key]['most']:.0f}{unit}"
            for name, key, unit in (
                ("memory", "memory_mib", " MiB"),
                ("descriptors", "descriptors", ""),
                ("threads", "threads", ""),
            )
        ),
        "memory after the second minute: "
        + ("too short a run to tell" if growth is None else f"{100 * growth:+.1f} % to the end"),
        f"exit code after SIGTERM {process['exit_code']}, log {process['log_kib']:.0f} KiB",
        *(f"PROBLEM: {problem}" for problem in figures["problems"]),
    ]
    typer.echo("\n".join(lines))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
