"""A graph for people to look at: as text, and as a Mermaid diagram."""

from __future__ import annotations

from streamkp.graph.plan import Plan
from streamkp.graph.spec import GraphSpec, StageSpec
from streamkp.uris import mask


def as_text(graph: GraphSpec) -> str:
    """One line for each stream, stage and feedback edge."""
    lines = [f"stream {name}: {mask(stream.uri.get_secret_value())}" for name, stream in graph.streams.items()]
    chained = {each.reader for each in Plan.of(graph).channels if each.chained}
    for stage in graph.stages:
        inputs = f" <- {', '.join(stage.inputs)}" if stage.inputs else ""
        thread = ", in the same thread" if stage.name in chained else ""
        lines.append(f"{stage.name} ({stage.use}, {stage.cls.kind}){inputs}{thread}")
        lines.append(f"    {_options(stage)}")
    lines += [f"feedback {sender} -> {taker}" for sender, taker in graph.feedback()]
    return "\n".join(line for line in lines if line.strip())


def as_mermaid(graph: GraphSpec) -> str:
    """A flowchart; feedback edges are dotted."""
    lines = ["flowchart LR"]
    for stage in graph.stages:
        left, right = ("([", "])") if stage.cls.kind in ("source", "sink") else ("[", "]")
        lines.append(f'    {_id(stage.name)}{left}"{stage.name}<br/>{stage.use}"{right}')
    for stage in graph.stages:
        lines += [f"    {_id(name)} --> {_id(stage.name)}" for name in stage.inputs]
    lines += [f"    {_id(sender)} -. feedback .-> {_id(taker)}" for sender, taker in graph.feedback()]
    return "\n".join(lines)


def _options(stage: StageSpec) -> str:
    values = stage.options.model_dump(mode="json", exclude_none=True)
    secret = ("token", "password", "key")
    return ", ".join(f"{k}={'***' if any(s in k for s in secret) else mask(str(v))}" for k, v in values.items())


def _id(name: str) -> str:
    return "s_" + "".join(c if c.isalnum() else "_" for c in name)
