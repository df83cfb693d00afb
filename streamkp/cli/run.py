"""`streamkp run`: a graph, until its files end or somebody stops it."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal, cast
from urllib.parse import urlsplit

import typer
from rich.console import Console

from streamkp.cli import logs
from streamkp.cli.additions import add_to
from streamkp.cli.display import Display, summary
from streamkp.cli.downloads import fetch_missing
from streamkp.cli.memory import keep_what_is_loaded, return_large_blocks
from streamkp.cli.page import page_of, show
from streamkp.cli.service import Service
from streamkp.control.run_server import ControlServer
from streamkp.errors import StreamkpError, UsageError
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.reload import reload
from streamkp.graph.spec import ControlSpec, GraphSpec
from streamkp.graph.stage import Source
from streamkp.graph.watchdog import stacks
from streamkp.uris import mask_address

REFRESH = 0.25  # seconds between two looks at the figures and the signals
log = logging.getLogger("streamkp.run")
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
    record: Annotated[
        list[Path] | None, typer.Option(help="Write JSON Lines here, or MCAP (.mcap): each frame (repeatable).")
    ] = None,
    render: Annotated[
        list[Path] | None, typer.Option(help="Write a video with the results drawn in here (repeatable).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist, those of --record, --render and the graph.")
    ] = False,
    add_stage: Annotated[
        list[str] | None,
        typer.Option(
            "--add-stage",
            metavar="STAGE",
            help="Put a stage in front of the sinks: its name, path/to/file.py:Class, or either with options: "
            "'wave.py:Wave{hold: 0.5}' (repeatable).",
        ),
    ] = None,
    add_sink: Annotated[
        list[str] | None,
        typer.Option("--add-sink", metavar="SINK", help="Add a sink, written as in --add-stage (repeatable)."),
    ] = None,
    no_page: Annotated[
        bool, typer.Option("--no-page", help="Leave publish-websocket, and with it the page, out.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="max_fps=10: an option of the streams given with --source (repeatable)."),
    ] = None,
    keep_alive: Annotated[
        bool, typer.Option("--keep-alive", help="Run on without streams, since some may be added from outside.")
    ] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="stages.detect.every=5 (repeatable).")] = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds to finish what is on its way when told to stop.")] = 5.0,
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
    page: Annotated[
        Literal["open", "print"] | None, typer.Option(help="Open the page in a browser, or print its address.")
    ] = None,
    trace: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the frames that OpenTelemetry follows, such as 0.01.")
    ] = None,
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
    if trace is not None:
        changes.append(f"tracing.sample={trace}" if trace else "tracing=off")
    if settings and not source:
        raise UsageError("--option is for the streams given with --source; those of the file have their options there")

    def load(before: GraphSpec | None = None) -> GraphSpec:
        loaded = Graph.from_yaml(graph, overrides=changes)
        if source:
            loaded.only_streams(_stream_names(source), settings or ())
        for text in add_stage or ():
            add_to(loaded, text, sink=False)
        for text in add_sink or ():
            add_to(loaded, text, sink=True)
        for path in record or ():
            name = _free_name(loaded, "record")
            loaded.add(name, "record", path=str(path)).told_at(name, "--record")
        for path in render or ():
            name = _free_name(loaded, "render")
            loaded.add(name, "render", path=str(path)).told_at(name, "--render")
        return _settled(loaded, overwrite, no_page, changes, before)

    console = logs.console(quiet)
    with _hang_ups() as hang_ups:
        spec = load()
        if not spec.streams and not keep_alive:
            raise UsageError(
                f"{graph} names no streams: give one with --source (a file, 0 for a webcam, rtsp://...), or wait for "
                "some with --keep-alive"
            )
        fetch_missing(spec)
        engine = Engine(spec, keep_alive=keep_alive)
        return_large_blocks()
        with _control(engine, console):
            engine.start()
            keep_what_is_loaded()
            if page is not None:
                show(page_of(engine), page == "print")
            stopped = _watch(engine, console, grace, Reloading(engine, load, graph, hang_ups))
    summary(engine, console)
    if engine.errors:
        raise _worst(engine.errors)
    if stopped:
        raise typer.Exit(128 + stopped)


@contextmanager
def _hang_ups() -> Iterator[list[int]]:
    """Notes each SIGHUP in the list, from the start on: it never ends a run."""
    noted: list[int] = []
    number = getattr(signal, "SIGHUP", None)
    if number is None:  # Windows
        yield noted
        return
    before = signal.signal(number, lambda caught, _: noted.append(caught))
    try:
        yield noted
    finally:
        signal.signal(number, before)


class Reloading:
    """Reads the graph file again when SIGHUP asks for it."""

    def __init__(self, engine: Engine, load: Callable[[GraphSpec], GraphSpec], name: str, asked: list[int]) -> None:
        self._engine = engine
        self._load = load
        self._name = name
        self._asked = asked
        self._spec = engine.spec

    def look(self) -> str | None:
        """Reload if that was asked for since the last look; returns what came of it."""
        if not self._asked:
            return None
        self._asked.clear()
        try:
            after = self._load(self._engine.spec)
        except StreamkpError as error:
            log.error("%s is not reloaded, everything goes on as before: %s", self._name, error)
            return f"{self._name} is not reloaded: the log says why"
        outcome = reload(self._engine, self._spec, after)
        self._spec = after
        for line in outcome.refused:
            log.warning("reload of %s: %s", self._name, line)
        for line in outcome.done:
            log.info("reload of %s: %s", self._name, line)
        done = "; ".join(outcome.done) or "nothing to change"
        return f"{self._name} is reloaded: {done}" + (f"; {len(outcome.refused)} refused" if outcome.refused else "")


def _settled(graph: Graph, overwrite: bool, no_page: bool, overrides: list[str], before: GraphSpec | None) -> GraphSpec:
    """The graph as it runs: what may be replaced, and which port the page takes, also depend on the command.

    `before` is the graph that runs already.
    """
    spec = graph.validate()
    source = cast("type[Source]", spec.source.cls)
    first = spec if before is None else before
    finite = bool(first.streams) and not any(
        source.is_live(stream.uri.get_secret_value()) if stream.live is None else stream.live
        for stream in first.streams.values()
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


def _watch(engine: Engine, console: Console, grace: float, reloading: Reloading) -> int:
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
        with Service(engine, os.environ) as service, Display(engine, console) as display:
            while not engine.wait(REFRESH):
                service.look()
                if outcome == "done" and (said := reloading.look()) is not None:
                    display.say(said)
                if signals and outcome == "done":
                    outcome = "drained"
                    deadline = engine.clock.monotonic() + int(grace * 1e9)
                    service.stopping()
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
            if outcome == "done":
                service.stopping()
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
    free, number = name, 1
    while free in taken:
        free, number = f"{name}-cli" if number == 1 else f"{name}-cli-{number}", number + 1
    return free


def _worst(errors: list[StreamkpError]) -> StreamkpError:
    """All messages in one error, with the exit code of the first."""
    if len(errors) == 1:
        return errors[0]
    return type(errors[0])("\n".join(str(error) for error in errors))
