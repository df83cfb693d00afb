"""`streamkp fleet`: one graph on many machines."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streamkp.cli import logs
from streamkp.cli.node import Authorities
from streamkp.cli.output import console
from streamkp.errors import StreamkpError, UsageError

fleet_app = typer.Typer(help="One graph on many machines: place streams on nodes, watch and move them.")

FleetFile = Annotated[Path, typer.Argument(help="The fleet file, such as fleet.yaml.")]
Group = Annotated[str, typer.Option(help="The fleet's group.")]
BrokerAddress = Annotated[str | None, typer.Option(help="mqtt://user:password@host:port; mqtts:// for TLS.")]
RayAddress = Annotated[
    str | None, typer.Option("--address", help="The Ray cluster of a fleet on Ray: auto, HOST:PORT.")
]
MaybeBroker = Annotated[str | None, typer.Option(help="The broker; that of the fleet file by default.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@fleet_app.command()
def run(
    file: FleetFile,
    broker: MaybeBroker = None,
    discovery: Annotated[
        str, typer.Option(help="Port for Prometheus' targets (/sd), the fleet's metrics and status; or off.")
    ] = "8790",
    discovery_host: Annotated[str, typer.Option(help="Address to listen on; a wider one needs a token.")] = "127.0.0.1",
    discovery_token: Annotated[
        str | None, typer.Option(envvar="STREAMKP_FLEET_TOKEN", help="Clients must show this secret.")
    ] = None,
    tls_ca: Authorities = None,
) -> None:
    """Supervise a fleet: give its streams to the nodes of its group, for as long as this runs. SIGHUP reads the file
    again. Nothing stops when this ends; the next one takes up where it was.
    """
    from streamkp.fleet import spec
    from streamkp.fleet.broker import Broker
    from streamkp.fleet.discovery import DiscoveryServer
    from streamkp.fleet.mqtt_supervisor import MqttSupervisor

    loaded = spec.load(file)
    address = Broker(_broker(loaded, broker), loaded.group, tls_ca=tls_ca)
    lines = logs.console()
    _warn(loaded, lines)

    def say(text: str) -> None:
        lines.print(text, highlight=False, markup=False)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        supervisor = MqttSupervisor(loaded, address, say=say)

        def reload() -> None:
            try:
                again = spec.load(file)
                if again.group != loaded.group:
                    raise UsageError(f"{file}: the group cannot be changed from {loaded.group} while it runs")
            except StreamkpError as error:
                say(f"the file is not taken: {error}")
                return
            supervisor.update(again)
            say(f"{file} was read again: {len(again.streams)} streams")

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, reload)
        server = None
        if discovery != "off":
            server = DiscoveryServer(loaded.group, supervisor.snapshot)
            port = await server.start(discovery_host, _port(discovery), token=discovery_token)
            say(f"targets for Prometheus are at http://{discovery_host}:{port}/sd")
        say(f"supervising {len(loaded.streams)} streams of group {loaded.group} at {address.shown}")
        try:
            await supervisor.run(stop)
        finally:
            if server is not None:
                await server.close()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


@fleet_app.command()
def plan(
    file: FleetFile,
    nodes: Annotated[int | None, typer.Option(min=1, help="On this many equal nodes.")] = None,
    node: Annotated[
        list[str] | None, typer.Option(help="On a node NAME[:CAPACITY][,KEY=VALUE...] (repeatable).")
    ] = None,
    broker: MaybeBroker = None,
    tls_ca: Authorities = None,
    as_json: Json = False,
) -> None:
    """Check a fleet file and show where its streams would go: on the nodes that run, or on those given."""
    from streamkp.fleet import planning, spec
    from streamkp.fleet.broker import Broker
    from streamkp.fleet.messages import NodeState
    from streamkp.fleet.remote import found

    loaded = spec.load(file)
    out = console()
    _warn(loaded, logs.console())
    if nodes or node:
        states = [NodeState(node=f"node-{n}.plan", name=f"node-{n}") for n in range(1, (nodes or 0) + 1)]
        states += [_imagined(text) for text in node or ()]
        if len({state.node for state in states}) < len(states):
            raise UsageError("--node: two nodes of the plan have the same name")
        planned = planning.plan(loaded, states)
    else:
        address = Broker(_broker(loaded, broker), loaded.group, tls_ca=tls_ca)
        planned = planning.plan(loaded, *asyncio.run(found(address)))
    if as_json:
        typer.echo(json.dumps({"nodes": planned.nodes, "waiting": planned.waiting, "moved": planned.moved}))
    else:
        table = Table("node", "streams", "", box=None)
        for name, streams in sorted(planned.nodes.items()):
            shown = ", ".join(streams[:6]) + (", ..." if len(streams) > 6 else "")
            table.add_row(name.rpartition(".")[0], str(len(streams)), shown)
        out.print(table)
        _waiting(out, planned.waiting)
    if planned.waiting:
        raise typer.Exit(1)


@fleet_app.command()
def status(
    broker: BrokerAddress = None,
    group: Group = "default",
    address: RayAddress = None,
    tls_ca: Authorities = None,
    as_json: Json = False,
) -> None:
    """How a fleet stands: nodes, streams, load, and what waits."""
    answer = _ask(broker, address, group, tls_ca, {"do": "status"})
    if as_json:
        typer.echo(json.dumps({**answer["status"], "owners": answer.get("owners", {})}))
        return
    show_status(answer["status"], console())


@fleet_app.command()
def move(
    stream: Annotated[str, typer.Argument(help="The stream.")],
    node: Annotated[str, typer.Argument(help="Where it goes.")],
    broker: BrokerAddress = None,
    group: Group = "default",
    address: RayAddress = None,
    tls_ca: Authorities = None,
) -> None:
    """Move a stream to a node."""
    _tell(broker, address, group, tls_ca, {"do": "move", "stream": stream, "node": node})


@fleet_app.command()
def drain(
    node: Annotated[str, typer.Argument(help="The node.")],
    broker: BrokerAddress = None,
    group: Group = "default",
    address: RayAddress = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let it take streams again.")] = False,
    tls_ca: Authorities = None,
) -> None:
    """Take all streams from a node, and give it none until it is started anew, or `--undo`."""
    _tell(broker, address, group, tls_ca, {"do": "undrain" if undo else "drain", "node": node})


def show_status(status: dict[str, Any], out: Console) -> None:
    """A supervisor's snapshot as a table."""
    table = Table("node", "state", "streams", "capacity", "p95 ms", "dropped %", "cores", "labels", box=None)
    for node in status["nodes"]:
        load = node["load"] or {}
        table.add_row(
            node["name"],
            node["problem"] or node["state"],
            str(node["streams"]),
            f"{node['capacity']:g}",
            f"{load.get('p95_ms', 0):.0f}",
            f"{100 * load.get('dropped', 0):.1f}",
            f"{load.get('cores', 0):.2f}",
            " ".join(f"{key}={value}" for key, value in sorted(node["labels"].items())),
        )
    out.print(table)
    out.print(
        f"{status['placed']} of {status['streams']} streams have a node; {status['moves']} given out, "
        f"{status['failures']} nodes failed",
        highlight=False,
    )
    _waiting(out, status["waiting"])


def _waiting(out: Console, waiting: dict[str, str]) -> None:
    reasons: dict[str, list[str]] = {}
    for name, why in waiting.items():
        reasons.setdefault(why or "not yet placed", []).append(name)
    for why, names in reasons.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        out.print(f"waiting: {shown}: {why}", highlight=False, markup=False)


def _broker(fleet: Any, given: str | None) -> str:
    address: str | None = given or fleet.broker
    if address is None:
        raise UsageError("no broker: give one with --broker, or as `broker:` in the fleet file")
    return address


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise UsageError(f"--discovery {text}: it is a port, or off")
    return int(text)


def _warn(fleet: Any, out: Console) -> None:
    if names := fleet.open_credentials():
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        out.print(
            f"insecure: passwords stand in the fleet file (streams: {shown}; {len(names)} in all), and the broker "
            "keeps them as they are",
            highlight=False,
            markup=False,
        )
    if places := fleet.open_graph_credentials():
        out.print(
            f"insecure: a password stands in the graph at {', '.join(places)}, and the broker keeps it as it is",
            highlight=False,
            markup=False,
        )


def _imagined(text: str) -> Any:
    from streamkp.cli.node import labels
    from streamkp.fleet.messages import NodeState

    head, *rest = text.split(",")
    name, _, capacity = head.partition(":")
    try:
        most = float(capacity) if capacity else None
    except ValueError:
        most = math.nan
    if not name or (most is not None and not 0 < most < math.inf):
        raise UsageError(f"--node {text}: write it as NAME:CAPACITY,KEY=VALUE, with a capacity above 0")
    return NodeState(node=f"{name}.plan", name=name, capacity=most, labels=labels(rest))


def _ask(
    broker: str | None, address: str | None, group: str, tls_ca: Path | None, command: dict[str, Any]
) -> dict[str, Any]:
    if address is not None:
        from streamkp.cli.fleet_ray import ask_ray

        return ask_ray(address, group, command)
    if broker is None:
        raise UsageError("say where the fleet is: --broker mqtt://..., or --address for one on Ray")
    from streamkp.fleet.broker import Broker
    from streamkp.fleet.remote import ask

    return asyncio.run(ask(Broker(broker, group, tls_ca=tls_ca), uuid.uuid4().hex, command))


def _tell(broker: str | None, address: str | None, group: str, tls_ca: Path | None, command: dict[str, Any]) -> None:
    answer = _ask(broker, address, group, tls_ca, command)
    if not answer.get("ok"):
        raise UsageError(str(answer.get("text")))
    typer.echo(answer["text"])
