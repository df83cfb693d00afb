"""`streamkp node`: a machine of a fleet."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from streamkp.cli import logs
from streamkp.cli.memory import return_large_blocks
from streamkp.errors import UsageError

Group = Annotated[str, typer.Option(help="The fleet's group.")]
BrokerAddress = Annotated[
    str, typer.Option(help="mqtt://user:password@host:port; mqtts:// for TLS. ${NAME} stands for a variable.")
]
Authorities = Annotated[Path | None, typer.Option("--tls-ca", help="Trust these authorities (PEM) for TLS.")]


def node(
    broker: BrokerAddress,
    group: Group = "default",
    name: Annotated[str | None, typer.Option(help="This node's name; the machine's own by default.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE that streams can require (repeatable).")] = None,
    capacity: Annotated[
        float | None, typer.Option(min=1, help="Most streams (their weights added); as the fleet says by default.")
    ] = None,
    advertise: Annotated[str | None, typer.Option(help="Host under which Prometheus finds this node.")] = None,
    grace: Annotated[float, typer.Option(help="Seconds to end the streams when told to stop.")] = 10.0,
    tls_ca: Authorities = None,
) -> None:
    """Run the streams that the supervisor of a group gives to this machine (`streamkp fleet run` is the supervisor)."""
    from streamkp.fleet.broker import Broker
    from streamkp.fleet.mqtt_node import MqttNode
    from streamkp.fleet.node import Node
    from streamkp.graph.spec import is_name

    address = Broker(broker, group, tls_ca=tls_ca)
    own = name or socket.gethostname().partition(".")[0]
    if not is_name(own):  # it becomes a part of topics
        raise UsageError(f"--name {own}: a node's name has letters, digits, '.', '_' and '-'")
    return_large_blocks()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        stop, cut = asyncio.Event(), asyncio.Event()

        def urgent() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(transport.urgent)

        made = Node(
            own,
            labels=labels(label or ()),
            capacity=capacity,
            advertise=advertise,
            urgent=urgent,
        )
        transport = MqttNode(made, address)

        def end() -> None:
            if stop.is_set():
                cut.set()
            stop.set()
            made.leave()
            loop.call_later(grace, cut.set)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        made.start()
        said = f"node {made.name} ({made.id}) of group {group} at {address.shown}"
        logs.console().print(said, highlight=False, markup=False)
        work = asyncio.create_task(transport.run(stop))
        cutting = asyncio.create_task(cut.wait())
        await asyncio.wait({work, cutting}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            typer.echo("streamkp: the streams did not end in time", err=True)
            os._exit(143)
        cutting.cancel()
        if work.exception() is not None:
            made.close()
        work.result()
        return 0

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def labels(given: list[str] | tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping.

    Raises:
        UsageError: one is not of that form.
    """
    out = {}
    for word in given:
        key, sep, value = word.partition("=")
        if not sep or not key or not value:
            raise UsageError(f"--label {word}: write it as KEY=VALUE, such as site=north")
        out[key] = value
    return out
