"""`streamkp stages`: what a graph may be made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from streamkp.cli.output import console
from streamkp.graph import registry


def stages(name: Annotated[str | None, typer.Argument(help="Only this stage.")] = None) -> None:
    """List the stages that a graph may use, each with its options."""
    out = console()
    for use in [name] if name else registry.names():
        cls = registry.stage_class(use, Path.cwd())
        summary = (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""
        table = Table(title=escape(f"{use} ({cls.kind}): {summary}"), title_justify="left", expand=out.is_terminal)
        for heading in ("option", "type", "default", "what it does"):
            table.add_column(heading, overflow="fold")
        live = cls.Options.live()
        for field, info in cls.Options.model_fields.items():
            kind = getattr(info.annotation, "__name__", None) if not str(info.annotation).count("|") else None
            default = "required" if info.is_required() else str(info.get_default(call_default_factory=True))
            kind = kind or str(info.annotation).replace("typing.", "")
            does = (info.description or "") + (" Can be changed while it runs." if field in live else "")
            table.add_row(*map(escape, (info.alias or field, kind, default, does)))
        out.print(table)
