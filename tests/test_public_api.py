"""The public interface: every name is listed here, so that none comes or goes by accident."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import streamkp

ROOT = Path(__file__).resolve().parent.parent

PUBLIC = {
    "streamkp": """
        Engine Graph Intrinsics Keypoints2D Keypoints3D ModelError OutputError Packet Person SourceError StreamkpError
        UsageError __version__ pipeline show stream
    """,
    "streamkp.plugin": """
        LIVE SKELETONS Annotation BatchStage Begun Clock Detections Extremities FreshFile Keypoints2D Keypoints3D
        LabelAnnotation
        LineAnnotation LoopThread MapStage Message MessageSink ModelError OutputError Packet PerStream PerTrack Person
        PoseWindow Sink Skeleton Source SourceError Stage StageContext StageOptions Status StreamContext StreamkpError
        UsageError WindowRequest convert recording refuse_existing skeleton
    """,
    "streamkp.testing": "FRAME Collect Collected ManualClock Scripted build count_to make_packet open_stage run_stage",
    "streamkp.models": """
        File Model ModelFile ModelOptions ModelSpec Network NetworkSource PersonDetector Pixels Pose PoseEstimator
        RunOptions TorchModule create crop load open_network points_to_source
    """,
}

HOOKS = {
    "Stage": """
        check claims close notice open options_changed outputs per_stream per_track reads_window requires shares_thread
        stream_ended summary track_ended
    """,
    "MapStage": "drain process",
    "BatchStage": "begin process",
    "Sink": "process",
    "MessageSink": "follow_streams process send stream_ended unfollow_streams wanted",
    "Source": "file_of frames is_live",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_names(module: str) -> None:
    public = import_module(module)
    assert sorted(public.__all__) == sorted(PUBLIC[module].split())
    assert not [name for name in public.__all__ if not hasattr(public, name)]


def test_every_public_name_is_offered_for_completion() -> None:
    assert set(dir(streamkp)) >= {*streamkp.__all__, "__doc__"}


@pytest.mark.parametrize("base", HOOKS)
def test_methods_that_a_stage_may_have(base: str) -> None:
    own = vars(getattr(import_module("streamkp.plugin"), base))
    methods = [name for name, value in own.items() if callable(value) or isinstance(value, classmethod)]
    assert sorted(name for name in methods if name[0] != "_" and name != "Options") == HOOKS[base].split()


def test_the_public_modules_need_no_torch() -> None:
    code = f"import sys, {', '.join(PUBLIC)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _imports(code: str) -> list[tuple[str, str | None]]:
    """The names that a piece of Python imports from streamkp: (module, name), None for the module itself."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [(node.module or "", alias.name) for alias in node.names]
    return [(module, name) for module, name in found if module.split(".")[0] == "streamkp"]


def _private(imports: list[tuple[str, str | None]]) -> list[str]:
    modules = {(package, name) for package, _, name in (module.rpartition(".") for module in PUBLIC)}
    return [
        f"{module}: {name}"
        for module, name in imports
        if module not in PUBLIC
        or (name is not None and name not in PUBLIC[module].split() and (module, name) not in modules)
    ]


def _statements(text: str) -> str:
    """The imports from streamkp in a document, one a line; code may stand beside other code in a table."""
    found = re.findall(r"\bfrom streamkp[\w.]* import (?:\([^)]*\)|\w+(?:, *\w+)*)|(?<!\S)import streamkp[\w.]*", text)
    return "\n".join(found)


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_import_only_what_is_public(path: Path) -> None:
    assert not _private(_imports(_statements(path.read_text("utf-8"))))


def test_the_documents_have_imports_to_look_at() -> None:
    found = [each for path in DOCUMENTS for each in _imports(_statements(path.read_text("utf-8")))]
    assert {module for module, _ in found} >= {"streamkp", "streamkp.plugin", "streamkp.models"}


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: path.stem)
def test_applications_import_only_what_is_public(path: Path) -> None:
    assert not _private(_imports(path.read_text("utf-8")))


def test_what_is_not_public_is_found() -> None:
    assert _statements("| a | from streamkp.hub import store |\n    import streamkp") == (
        "from streamkp.hub import store\nimport streamkp"
    )
    code = "from streamkp.plugin import Host\nfrom streamkp.graph.stage import Stage\nimport streamkp.hub\n"
    assert _private(_imports(code)) == ["streamkp.plugin: Host", "streamkp.graph.stage: Stage", "streamkp.hub: None"]
    assert not _private(
        _imports("import streamkp\nfrom streamkp import plugin, stream\nimport streamkp.testing as t\n")
    )
