"""The parts of the reference that are made from the code: each function gives the Markdown for one marker.

`<!-- generated: NAME ARGUMENT -->` in a page stands for `make("NAME ARGUMENT")`.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from skeleton_pictures import picture
from typer.models import ArgumentInfo, OptionInfo

import streamkp
from streamkp import errors, wire
from streamkp.cli.main import app
from streamkp.graph import registry, spec
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph, ready_made
from streamkp.graph.statistics import StageFigures, prometheus_text
from streamkp.hub.catalog import table as catalog_table
from streamkp.skeletons import SKELETONS

PACKAGE = Path(streamkp.__file__).parent


class Unknown(Exception):
    """A page asks for something that cannot be generated."""


def make(marker: str, folder: Path) -> str:
    """The Markdown of one marker. `folder` is where the page is; pictures go beside it."""
    name, _, argument = marker.partition(" ")
    if name == "skeletons":
        return skeletons(folder)
    try:
        makers: dict[str, Callable[..., str]] = {
            "cli": cli, "stages": stages, "graph-file": graph_file, "graphs": graphs, "models": models,
            "messages": messages, "metrics": metrics, "exit-codes": exit_codes, "endpoints": endpoints,
            "api": api,
            "python": python,
        }  # fmt: skip
        return makers[name](*([argument] if argument else []))
    except KeyError:
        raise Unknown(f"nothing is generated as {name!r}") from None


def cell(text: object) -> str:
    """Text for a cell of a table."""
    return (
        " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("[", "&#91;")
    )


def code(text: object) -> str:
    """Code for a cell of a table."""
    text = " ".join(str(text).split())
    return f"`{text}`".replace("|", "\\|") if text else ""


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; empty if there are no rows."""
    heads, lines = list(headings), [f"| {' | '.join(row)} |" for row in map(list, rows)]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |", *lines]) + "\n"


# --- command line --------------------------------------------------------------------------------------------


def cli() -> str:
    """Every command with its arguments and options, from the signatures that typer reads."""
    return "\n".join(_section("streamkp", app.registered_callback.callback) + _commands(app, "streamkp"))


def _commands(group: typer.Typer, path: str) -> list[str]:
    lines = []
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        lines += _section(f"{path} {name}", command.callback)
    for below in group.registered_groups:
        lines += _commands(below.typer_instance, f"{path} {below.name or below.typer_instance.info.name}")
    return lines


def _section(path: str, function: Callable[..., Any]) -> list[str]:
    """The heading, the usage and the options of one command."""
    rows, usage = [], [path]
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, *notes = (
            get_args(hints[parameter.name])
            if get_origin(hints[parameter.name]) is Annotated
            else (hints[parameter.name],)
        )
        about = next((note for note in notes if isinstance(note, OptionInfo | ArgumentInfo)), None)
        if about is None or about.hidden:
            continue
        required = parameter.default is parameter.empty
        shown, several = _annotation(kind)
        if isinstance(about, ArgumentInfo):
            name = (about.metavar or parameter.name).upper() + ("..." if several else "")
            usage.append(name if required else f"[{name}]")
        else:
            name = ", ".join(about.param_decls or [f"--{parameter.name.replace('_', '-')}"])
            usage += [f"{name} {parameter.name.upper()}"] if required else []
        default = (
            "required"
            if required
            else ""
            if parameter.default in (None, False, ())
            else code(getattr(parameter.default, "value", parameter.default))
        )
        rows.append([code(name), cell(shown), default, cell(about.help or "")])
    usage += ["COMMAND", "..."] if path == "streamkp" else []
    return [f"## {path}", "", _text(function.__doc__ or ""), "", f"    {' '.join(usage)}", "",
            table(("argument or option", "type", "default", "what it does"), rows), ""]  # fmt: skip


def _annotation(kind: Any) -> tuple[str, bool]:
    """A type as a word, and whether several may be given."""
    parts = (
        [part for part in get_args(kind) if part is not type(None)]
        if get_origin(kind) in (Union, UnionType)
        else [kind]
    )
    kind = parts[0]
    if get_origin(kind) is list:
        return f"{_annotation(get_args(kind)[0])[0]}, repeatable", True
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " or ".join(str(each.value) for each in kind), False
    words = {bool: "", str: "text", Path: "path", int: "integer", float: "number"}
    return words.get(kind, _kind(kind)), False


def _text(text: str) -> str:
    return inspect.cleandoc(text).replace("\b", "").replace("<", "&lt;").replace("][", "]&#91;")


# --- stages and graph files ----------------------------------------------------------------------------------


def _kind(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"\b(?:typing|pathlib|pydantic\.types|collections\.abc)\.", "", text)
    text = re.sub(r"Annotated\[([^,\[\]]+(?:\[[^\]]*\])?), .*?\](?=$|,| \|)", r"\1", text)
    return re.sub(r"\b[a-z_]\w*(?:\.\w+)+\.(\w+)", r"\1", text)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return code("null" if value is None else str(value).lower() if isinstance(value, bool) else value)


def _limits(info: FieldInfo) -> str:
    words = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
    found = [words[key].format(getattr(rule, key)) for rule in info.metadata for key in words if hasattr(rule, key)]
    return f" ({', '.join(found)})" if found else ""


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def options(model: type[BaseModel], prefix: str = "") -> list[list[str]]:
    """Rows of a table for the fields of a model; those of models in it follow with their path."""
    rows = []
    for name, info in model.model_fields.items():
        name = f"{prefix}{info.alias or name}"
        below = next(iter(_models_in(info.annotation)), None)
        kind = _kind(info.annotation) if below is None else "mapping"
        rows.append(
            [
                code(name),
                cell(kind) + _limits(info),
                _default(info),
                cell(info.description or (below and below.__doc__) or ""),
            ]
        )
        if below is not None and below is not model:
            rows += options(below, f"{name}.")
    return rows


OPTION_HEADINGS = ("option", "type", "default", "what it does")


def stages() -> str:
    """Every stage that a graph may use."""
    parts = []
    for use in registry.names():
        cls = registry.stage_class(use)
        flows = [f"kind: {cls.kind}"]
        flows += [f"needs: {', '.join(cls.needs)}"] if cls.needs else []
        flows += [f"adds: {', '.join(cls.gives)}"] if cls.gives else []
        if use not in registry.BUILT_IN:
            flows.append("comes with the applications")
        parts += [f"## {use}", "", _text(cls.__doc__ or ""), "", f"*{'; '.join(flows)}*", ""]
        parts += [table(OPTION_HEADINGS, options(cls.Options)) or "No options.", ""]
    return "\n".join(parts)


def graph_file() -> str:
    """The keys of a graph file that are not options of stages."""
    parts = []
    for title, model in (
        ("streams.NAME", spec.StreamSpec),
        ("stages.NAME, besides the stage's own options", spec.StageSettings),
        ("control", spec.ControlSpec),
    ):
        rows = options(model)
        if model is spec.StageSettings:
            rows.insert(
                1, [code("from"), "str or list", "the stage above", "The stage, or stages, whose packets it takes."]
            )
        parts += [f"### {title}", "", _text(model.__doc__ or ""), "", table(OPTION_HEADINGS, rows), ""]
    return "\n".join(parts)


def graphs() -> str:
    """The ready-made graphs and what each is for."""
    rows = []
    for name, file in ready_made().items():
        lines = file.read_text("utf-8").splitlines()
        about = " ".join(
            line.lstrip("# ") for line in lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))]
        )
        rows.append([code(name), cell(about)])
    return table(("graph", "what it is for"), rows)


# --- skeletons, models, messages -------------------------------------------------------------------------------


def skeletons(folder: Path) -> str:
    """Joints, bones and a picture of each layout; the pictures are written to `folder`."""
    parts = []
    for skeleton in SKELETONS.values():
        file = f"skeleton-{skeleton.name}.svg"
        (folder / file).write_text(picture(skeleton), "utf-8")
        parts += [f"## {skeleton.name}", "", f"{len(skeleton)} joints, {len(skeleton.bones)} bones.", ""]
        parts += [f"![{skeleton.name}: the joints with their indices, seen from the front]({file})", ""]
        joints = list(enumerate(skeleton.joints))
        columns = 1 if len(joints) <= 21 else 2 if len(joints) <= 40 else 3 if len(joints) < 200 else 5
        height = -(-len(joints) // columns)
        rows = []
        for row in range(height):
            line = []
            for column in range(columns):
                at = row + column * height
                line += (
                    [str(at), code(skeleton.joints[at]), str(skeleton.mirror[at])] if at < len(joints) else ["", "", ""]
                )
            rows.append(line)
        parts += [table(("index", "joint", "mirror") * columns, rows), ""]
        bones = ", ".join(f"{a}-{b}" for a, b in skeleton.bones)
        parts += [f"Bones: {bones}.", ""]
    return "\n".join(parts)


def models() -> str:
    """The catalog, one table for each task."""
    rows_of_all = catalog_table().model
    parts = []
    for task in dict.fromkeys(model.task for model in rows_of_all):
        rows = []
        for model in rows_of_all:
            if model.task != task:
                continue
            size = (
                "x".join(map(str, reversed(model.input_size)))
                if model.input_size
                else f"{model.frames} poses"
                if model.frames
                else ""
            )
            figures = "; ".join(f"{cell(metric)}: {value}" for metric, value in model.published.items())
            rows.append(
                [code(model.name), cell(model.title), code(model.skeleton or ""), size, cell(model.licence), figures]
            )
        parts += [
            f"## {task}",
            "",
            table(("name", "what", "skeleton", "input", "licence", "published accuracy"), rows),
            "",
        ]
    return "\n".join(parts)


def messages() -> str:
    """The fields of everything that is published, from the JSON Schema."""
    schema = wire.schema()
    parts = []
    order = sorted(schema["$defs"], key=lambda name: (not name.startswith("Frame"), not name.startswith("Person")))
    for name in order:
        model = schema["$defs"][name]
        required = set(model.get("required", ()))
        parts += [f"## {_title(name)}", "", cell(model.get("description", "")), ""]
        rows = [
            [
                code(field),
                _schema_type(about),
                "always" if field in required else "where known",
                cell(about.get("description", "")),
            ]
            for field, about in model["properties"].items()
        ]
        parts += [table(("field", "type", "present", "what it is"), rows), ""]
    return "\n".join(parts)


def _title(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=\d)(?=[A-Z])", " ", name.removesuffix("Message")).capitalize()


def _schema_type(about: dict[str, Any]) -> str:
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{_title(name)}](#{_title(name).lower().replace(' ', '-')})"
    if "const" in about:
        return code(about["const"])
    if "enum" in about:
        return ", ".join(code(value) for value in about["enum"])
    if "anyOf" in about:
        return " or ".join(_schema_type(each) for each in about["anyOf"])
    if about.get("type") == "array":
        if "prefixItems" in about:
            return f"list of {len(about['prefixItems'])} numbers"
        return f"list of {_schema_type(about.get('items', {}))}"
    return cell(about.get("type", "any"))


# --- metrics, exit codes, endpoints, Python --------------------------------------------------------------------


def metrics() -> str:
    """What `/metrics` has, from the text of one stage and one stream."""
    figures = StageFigures("detect", "cam", done=1, latency=[0.1])
    for name in ("busy_counts", "latency_counts"):
        setattr(figures, name, [1, *getattr(figures, name)[1:]])
    text = prometheus_text([figures], [("cam", "live")]).decode()
    rows = []
    for name, about in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE):
        kind = re.search(rf"^# TYPE {name} (\w+)$", text, re.MULTILINE)
        labels = dict.fromkeys(
            re.findall(r'(\w+)="', " ".join(re.findall(rf"^{name}\w*\{{(.*?)\}}", text, re.MULTILINE)))
        )
        rows.append([code(name), kind[1] if kind else "", ", ".join(code(x) for x in labels if x != "le"), cell(about)])
    return table(("metric", "type", "labels", "what it is"), rows)


def exit_codes() -> str:
    """Exit codes from the errors that carry them."""
    rows = [
        ["0", "", "Done; also after Ctrl-C or SIGTERM, when everything on its way came out within `--grace` seconds."]
    ]
    kinds = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.StreamkpError)]
    for cls in sorted(kinds, key=lambda kind: kind.exit_code):
        about = (cls.__doc__ or "").strip().splitlines()[0]
        if cls is errors.StreamkpError:
            about = "Another error, such as a stage that failed on every frame, or an output that got nothing."
        rows.append([str(cls.exit_code), code(f"streamkp.{cls.__name__}"), cell(about)])
    rows.append(["130, 143", "", "Interrupted (Ctrl-C, SIGTERM) before the results were out."])
    return table(("code", "in Python", "meaning"), rows)


def _imported(tree: ast.Module) -> Iterable[str]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""


ROUTE = re.compile(r"^(?:get|post|put|patch|delete|static)$")


def endpoints() -> str:
    """Every HTTP route in the package with the first sentence of its handler's docstring."""
    trees = {file: ast.parse(file.read_text("utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}
    trees = {file: tree for file, tree in trees.items() if "aiohttp" in {*_imported(tree)}}
    told: dict[str, str] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef) and (about := ast.get_docstring(node)):
                told.setdefault(node.name, about)
    rows: dict[tuple[str, str], list[str]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "web" and len(node.args) >= 2):
                continue
            path, handler = node.args[:2]
            if not (ROUTE.match(node.func.attr) and isinstance(path, ast.Constant) and isinstance(path.value, str)):
                continue
            if node.func.attr == "static":
                rows[path.value, ""] = [code(f"GET {path.value}/..."), "The files of the page."]
                continue
            method = node.func.attr.upper()
            name = handler.attr if isinstance(handler, ast.Attribute) else getattr(handler, "id", "")
            rows[path.value, method] = [code(f"{method} {path.value}"), cell(told.get(name, "").split("\n\n")[0])]
    return table(("request", "answer"), [rows[key] for key in sorted(rows)])


def api() -> str:
    """The operations of the control API, from its OpenAPI document."""
    from streamkp.control import api, openapi

    document = openapi.document(api.operations(Engine(Graph.from_yaml("demo").validate())), token=True)
    rows = []
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            if method in ("get", "post", "put", "patch", "delete"):
                rows.append(
                    [code(f"{method.upper()} {path}"), cell(about.get("summary") or about.get("description", ""))]
                )
    return table(("request", "what it does"), rows)


def python(module: str) -> str:
    """Directives for the public names of a module."""
    found = importlib.import_module(module)
    parts = []
    for name in sorted(found.__all__, key=str.lower):
        value = getattr(found, name)
        if name.startswith("__"):
            continue
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue  # constants and types are told in the page
        home = (
            f"{value.__module__}.{value.__qualname__}"
            if value.__module__.startswith("streamkp")
            else f"{module}.{name}"
        )
        parts += [f"::: {home}", ""]
    return "\n".join(parts)
