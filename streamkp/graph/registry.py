"""Finds the class of a stage by the name that YAML uses.

Built-in stages are listed here; other packages add theirs through the entry point group `streamkp.stages`; a graph
file may name one in a Python file as `path/to/file.py:ClassName`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from streamkp.errors import UsageError
from streamkp.graph.stage import Stage

BUILT_IN: Final = {
    "decode": "streamkp.sources.decode:Decode",
    "replay": "streamkp.sources.replay:Replay",
    "detect-person": "streamkp.stages.detect_person:DetectPerson",
    "keypoints-2d": "streamkp.stages.keypoints_2d:Keypoints2DStage",
    "keypoints-parts": "streamkp.stages.keypoints_parts:KeypointsParts",
    "gestures": "streamkp.stages.gestures:Gestures",
    "smooth-one-euro": "streamkp.stages.smooth_one_euro:SmoothOneEuro",
    "window": "streamkp.stages.window:WindowStage",
    "lift-3d": "streamkp.stages.lift_3d:Lift3D",
    "smooth-3d": "streamkp.stages.smooth_3d:Smooth3D",
    "level-3d": "streamkp.stages.level_3d:Level3D",
    "publish-websocket": "streamkp.sinks.publish_websocket:PublishWebsocket",
    "publish-webrtc": "streamkp.sinks.publish_webrtc:PublishWebrtc",
    "publish-mqtt": "streamkp.sinks.publish_mqtt:PublishMqtt",
    "record": "streamkp.sinks.record:Record",
    "render": "streamkp.sinks.render:Render",
    "rerun": "streamkp.sinks.rerun:Rerun",
}

_FILE_MODULE: Final = "streamkp_plugin_"  # how the modules of plugin files are called
ENTRY_POINT_GROUP: Final = "streamkp.stages"


def names() -> list[str]:
    """Every stage name that YAML may use, apart from files."""
    return [*BUILT_IN, *sorted(e.name for e in entry_points(group=ENTRY_POINT_GROUP) if e.name not in BUILT_IN)]


def is_plugin(use: str) -> bool:
    """Whether looking at this stage runs code that is not part of streamkp."""
    return use not in BUILT_IN and (".py:" in use or any(e.name == use for e in entry_points(group=ENTRY_POINT_GROUP)))


def stage_class(use: str, base: Path | None = None) -> type[Stage]:
    """The class that YAML names with `use`; a file path is relative to `base` (the graph file's folder).

    Raises:
        UsageError: there is no such stage, or it is not a `Stage`.
    """
    if use in BUILT_IN:
        module, _, attribute = BUILT_IN[use].partition(":")
        found = getattr(importlib.import_module(module), attribute)
    elif ".py:" in use:
        found = _from_file(use, base or Path())
    else:
        found = _from_entry_point(use)
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise UsageError(f"{use} is not a stage: its class must derive from MapStage, BatchStage, Sink or Source")
    return found


def reference(cls: type[Stage]) -> type[Stage] | str:
    """What another process finds a stage's class by: `path/to/file.py:ClassName` of a plugin file, else the class."""
    module = sys.modules.get(cls.__module__)
    if cls.__module__.startswith(_FILE_MODULE) and module is not None and module.__file__ is not None:
        return f"{module.__file__}:{cls.__qualname__}"
    return cls


def _from_entry_point(use: str) -> object:
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == use:
            try:
                return entry.load()
            except (Exception, SystemExit) as error:  # importing a plugin must not end the program
                raise UsageError(f"the plugin stage {use} ({entry.value}) cannot be imported: {error!r}") from error
    close = difflib.get_close_matches(use, names(), 1)
    hint = f"did you mean {close[0]}?" if close else f"known stages: {', '.join(names())}"
    raise UsageError(f"there is no stage named {use}; {hint}")


def _from_file(use: str, base: Path) -> object:
    file, _, attribute = use.rpartition(":")
    path = (base / file).resolve()
    if not path.is_file():
        raise UsageError(f"the plugin file {file} does not exist (looked for {path})")
    name = f"{_FILE_MODULE}{path.stem}_{abs(hash(path)):x}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"the plugin file {file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise UsageError(f"the plugin file {file} cannot be imported: {error!r}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UsageError(f"the plugin file {file} has no class {attribute}") from None
