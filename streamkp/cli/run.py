"""`streamkp run`: a graph, until its files end or somebody stops it."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal, cast
from urllib.parse import urlsplit

import typer
from rich.console import Console

from streamkp.cli.display import Display, summary
from streamkp.cli.memory import return_large_blocks
from streamkp.control.run_server import ControlServer
from streamkp.errors import StreamkpError, UsageError
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.spec import ControlSpec, GraphSpec
from streamkp.graph.stage import Source
from streamkp.graph.watchdog import stacks
from streamkp.uris import mask_address

REFRESH = 0.25  # seconds between two looks at the figures and the signals
MARGIN = 5.0  # seconds that threads get to end after everything on its way was thrown away


def run(
    graph: Annotated[str, typer.Argument(help="A graph file, or the name of a ready-made graph.")] = "demo",
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            "-s",
            help="A file, a camera (0, rtsp://...), sample:NAME; repeat for several. ${NAME} in it stands for a "
            "variable of the environment: in single quotes, so that a password shows in no list of processes.",
        ),
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Write one JSON line for each frame here.")] = None,
    render: Annotated[Path | None, typer.Option(help="Write a video with the results drawn in here.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist, those of --record, --render and the graph.")
    ] = False,
    no_page: Annotated[
        bool, typer.Option("--no-page", help="Leave publish-websocket, and with it the page, out.")
    ] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="stages.detect.every=5 (repeatable).")] = None,
    grace: Annotated[float, typer.Option(help="Seconds to finish what is on its way when told to stop.")] = 5.0,
    control: Annotated[
        str | None, typer.Option(help="Port of the control server (health, metrics, statistics), or off.")
    ] = None,
    executor: Annotated[
        Literal["threads", "ray"],
        typer.Option("--engine", help="ray: GRAPH is a fleet file, run on all machines of a Ray cluster."),
    ] = "threads",
    address: Annotated[
        str | None, typer.Option(help="Ray: auto, or HOST:PORT of the cluster; one of this machine's own by default.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="Ray: where the supervisor keeps who runs what.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Run a graph on its own streams, or on those given with --source."""
    if executor == "ray":
        from streamkp.cli.fleet_ray import run_fleet

        if source or record or render or overrides or no_page or overwrite or control is not None:
            raise UsageError("with --engine ray the streams and stages are those of the fleet file")
        run_fleet(graph, address, state, Console(stderr=True, quiet=quiet))
        return
    if address is not None or state is not None:
        raise UsageError("--address and --state go with --engine ray")
    changes = list(overrides or ())
    if control is not None:
        changes.append("control=off" if control == "off" else f"control.port={control}")
    loaded = Graph.from_yaml(graph, overrides=changes)
    if source:
        loaded.only_streams(_stream_names(source))
    if record is not None:
        loaded.add(_free_name(loaded, "record"), "record", path=str(record))
    if render is not None:
        loaded.add(_free_name(loaded, "render"), "render", path=str(render))
    spec = _settled(loaded, overwrite, no_page, changes)
    if not spec.streams:
        raise UsageError(f"{graph} names no streams: give one with --source (a file, 0 for a webcam, rtsp://...)")
    engine = Engine(spec)
    console = Console(stderr=True, quiet=quiet)
    return_large_blocks()
    with _control(engine, console):
        engine.start()
        stopped = _watch(engine, console, grace)
    summary(engine, console)
    if engine.errors:
        raise _worst(engine.errors)
    if stopped:
        raise typer.Exit(128 + stopped)


def _settled(graph: Graph, overwrite: bool, no_page: bool, overrides: list[str]) -> GraphSpec:
    """The graph as it runs: what may be replaced, and which port the page takes, also depend on the command."""
    spec = graph.validate()
    source = cast("type[Source]", spec.source.cls)
    finite = bool(spec.streams) and not any(
        source.is_live(stream.uri.get_secret_value()) if stream.live is None else stream.live
        for stream in spec.streams.values()
    )
    for stage in spec.stages:
        options = type(stage.options).model_fields
        if no_page and stage.cls.serves_control:
            graph.without(stage.name)
        elif (
            finite and "next_port" in options and not any(o.startswith(f"stages.{stage.name}.port=") for o in overrides)
        ):
            # Somebody who has files worked on waits for the results, not for the page.
            graph.set_option(stage.name, "next_port", True)
        if overwrite and "overwrite" in options:
            graph.set_option(stage.name, "overwrite", True)
    if no_page and all(stage.cls.serves_control for stage in spec.stages if stage.cls.kind == "sink"):
        raise UsageError("with --no-page no results leave this graph: add --record FILE or --render FILE")
    return graph.validate()


def _control(engine: Engine, console: Console) -> AbstractContextManager[object]:
    """The run's control server, unless it is switched off or a stage of the graph serves the same."""
    spec = engine.spec
    served = any(stage.cls.serves_control for stage in spec.stages)
    if spec.control == "off" or (spec.control is None and served):
        return nullcontext()
    server = ControlServer(engine, spec.control or ControlSpec())
    console.print(f"health, metrics and statistics are at {server.start()}", highlight=False, markup=False)
    return server


def _watch(engine: Engine, console: Console, grace: float) -> int:
    """Show the figures until the run is over.

    Returns the number of the signal that cut it short, because the time ran out or a second signal came; 0 if all of
    its results are out. Where threads do not end even then, the process says where they are, and ends without them.
    """
    signals: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        signals.append(number)  # only noted: a handler must not take a lock that its own thread may hold

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    outcome, deadline = "done", 0
    try:
        with Display(engine, console) as display:
            while not engine.wait(REFRESH):
                if signals and outcome == "done":
                    outcome = "drained"
                    deadline = engine.clock.monotonic() + int(grace * 1e9)
                    display.say("stopping; press Ctrl-C again to stop at once")
                    engine.drain()
                elif outcome == "drained" and (len(signals) > 1 or engine.clock.monotonic() > deadline):
                    outcome = "cut"
                    deadline = engine.clock.monotonic() + int(MARGIN * 1e9)
                    engine.stop()
                elif outcome == "cut" and engine.clock.monotonic() > deadline:
                    outcome = "stuck"
                    break
                display.refresh()
    except BaseException:
        engine.stop()
        engine.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if outcome == "stuck":
        _give_up(engine, 128 + signals[0])
    return signals[0] if outcome == "cut" else 0


def _give_up(engine: Engine, code: int) -> None:
    """End the process although threads are stuck, in a plugin or in a library: no exception would reach them."""
    threads = engine.threads()
    names = ", ".join(thread.name for thread in threads)
    print(f"streamkp: these threads do not end: {names}\n{stacks(threads)}", file=sys.stderr, end="", flush=True)
    logging.shutdown()
    os._exit(code)


def _stream_names(sources: list[str]) -> dict[str, str]:
    """Short stream ids for addresses: a file's stem, a camera's number or host; never a credential."""
    names: dict[str, str] = {}
    for uri in sources:
        if uri.isdigit():
            base = f"webcam{uri}"
        elif uri.startswith("replay://"):
            base = Path(uri.partition("?")[0]).name.partition(".")[0]
        elif "://" in uri:
            base = _host(uri)
        else:
            base = Path(mask_address(uri).removeprefix("sample:")).stem
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", base).strip("-._")[:48] or "stream"
        name, n = base, 2
        while name in names:
            name, n = f"{base}-{n}", n + 1
        names[name] = uri
    return names


def _host(uri: str) -> str:
    """The host of an address; it is masked first, since a password with "@" and "/" in it parses as one."""
    try:
        return urlsplit(mask_address(uri)).hostname or "stream"
    except ValueError:  # such as a bracket without its pair; opening it will say so
        return "stream"


def _free_name(graph: Graph, name: str) -> str:
    taken = graph.stage_names()
    return name if name not in taken else f"{name}-cli"


def _worst(errors: list[StreamkpError]) -> StreamkpError:
    """All messages in one error, with the exit code of the first."""
    if len(errors) == 1:
        return errors[0]
    return type(errors[0])("\n".join(str(error) for error in errors))
