"""What the terminal shows while a graph runs: a table of live figures, and progress where the end is known."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamkp.graph.engine import Engine


class Display:
    """Redraws on `refresh`; on something that is not a terminal it prints only what is said."""

    def __init__(self, engine: Engine, console: Console) -> None:
        self._engine = engine
        self._console = console
        self._said = ""
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        for line in self._engine.notices():
            self._console.print(line, highlight=False, markup=False)
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Show a line until the end."""
        self._said = text
        if self._live is None:
            self._console.print(text, highlight=False, markup=False)

    def refresh(self) -> None:
        """Draw the figures of now."""
        if self._live is not None:
            self._live.update(_view(self._engine.stats(), self._said), refresh=True)


def _view(stats: dict[str, Any], said: str) -> RenderableType:
    parts: list[RenderableType] = [_streams(stats["streams"]), _stages(stats["stages"])]
    parts += [Text(error, style="red") for error in stats["errors"][-3:]]
    parts.append(Text(said or "Ctrl-C stops", style="dim"))
    return Group(*parts)


def _streams(streams: dict[str, Any]) -> Table:
    table = Table("stream", "source", "status", "frames", "progress", title="streams", title_justify="left")
    for name, row in list(streams.items())[:32]:
        table.add_row(name, Text(row["source"]), row["status"]["state"], str(row["frames"]), _progress(row))
    return table


def _progress(row: dict[str, Any]) -> RenderableType:
    if row["duration_s"]:
        return ProgressBar(total=row["duration_s"], completed=min(row["position_s"], row["duration_s"]), width=32)
    if row["frames_total"]:
        return ProgressBar(total=row["frames_total"], completed=min(row["frames"], row["frames_total"]), width=32)
    return Text(f"{row['position_s']:.1f} s")


def _stages(stages: dict[str, Any]) -> Table:
    headings = ("stage", "stream", "fps", "queue", "busy p50 ms", "dropped", "errors", "latency p50/p95 ms")
    table = Table(*headings, title="stages", title_justify="left")
    for stage, streams in stages.items():
        for stream, row in list(streams.items())[:32]:
            latency = row.get("latency_ms")
            table.add_row(
                stage,
                stream,
                f"{row['fps']:.1f}",
                str(row["queue"]),
                f"{row['busy_ms']['p50']:.2f}",
                str(sum(row["dropped"].values()) - row["dropped"]["error"]),
                str(row["errors"]),
                f"{latency['p50']:.0f} / {latency['p95']:.0f}" if latency else "",
            )
    return table


def summary(engine: Engine, console: Console) -> None:
    """When the run is over: a line for each stream, for each stage that lost frames, and what stages have to say."""
    stats = engine.stats()
    for name, row in stats["streams"].items():
        lost = [figures for figures in engine.figures() if figures.stream == name and figures.losses()]
        dropped = sum(figures.dropped for figures in lost)
        state = row["status"]["state"]
        console.print(
            f"{name}: {row['frames']} frames, {dropped} dropped, {state} after {stats['uptime_s']:.1f} s",
            highlight=False,
            markup=False,
        )
        for figures in lost:
            console.print(f"    {figures.stage}: {figures.losses()}", highlight=False)
    for line in engine.summaries():
        console.print(line, highlight=False, markup=False)
