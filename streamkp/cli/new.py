"""`streamkp new plugin`: a package with a stage of one's own, its test and a graph that runs it."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from streamkp.errors import OutputError, UsageError
from streamkp.graph import registry

new_app = typer.Typer(help="Start something of your own.", no_args_is_help=True)

# Where each template goes; {package} is the name as Python has it.
PLUGIN = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "gitignore.tmpl": ".gitignore",
    "graph.yaml.tmpl": "graph.yaml",
    "stage.py.tmpl": "{package}/stage.py",
    "test_stage.py.tmpl": "tests/test_stage.py",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def _taken(package: str) -> bool:
    """Whether a package of this name can be imported; a folder without `__init__.py` in the working folder is none."""
    if package in sys.stdlib_module_names or package == "tests":
        return True
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return True
    return found is not None and found.origin is not None


@new_app.callback()
def _group() -> None:
    """Start something of your own."""


@new_app.command()
def plugin(
    name: Annotated[str, typer.Argument(help="Name of the stage in graph files, such as jump-height.")],
    folder: Annotated[Path | None, typer.Option("--in", help="Where to make it; by default in ./NAME.")] = None,
) -> None:
    """Make a folder with a stage of your own: package, test, graph and README. Its test passes as it is."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a stage's name: small letters, digits and single hyphens, as in jump-height"
        )
    if name in registry.names():
        raise UsageError(f"there is a stage named {name} already; `streamkp stages {name}` shows it")
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or _taken(package):
        raise UsageError(
            f"Python has {package} for something else, which such a package would hide: choose another name"
        )
    cls = "".join(part.capitalize() for part in name.split("-"))
    folder = folder or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not empty; choose another place with --in")
    templates = files("streamkp.cli") / "templates" / "plugin"
    try:
        for template, target in PLUGIN.items():
            text = Template((templates / template).read_text("utf-8")).substitute(name=name, package=package, cls=cls)
            path = folder / target.format(package=package)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        (folder / package / "__init__.py").write_text(f'"""The stage `{name}` for streamkp."""\n', "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from None
    typer.echo(f"made {folder}: the stage is {folder / package / 'stage.py'}")
    typer.echo(
        f"next: cd {folder} && pip install -e '.[dev]' && pytest && streamkp run graph.yaml --source 0 --page open"
    )
