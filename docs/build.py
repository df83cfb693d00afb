"""Build the site: `pip install -e '.[docs]' && python docs/build.py` writes it to `site/`.

The pages are those of `docs/`. Where one says `<!-- generated: NAME -->` the build puts what `reference.py` makes of
the code. Every warning is an error: a link to a page, a heading or a picture that is not there, a page that the
navigation cannot place, a name that the reference does not find. Links to other sites are not followed.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

import reference  # noqa: E402

REPOSITORY = "https://github.com/streamkp/streamkp/blob/main/"
MARKER = re.compile(r"^<!-- generated: (\S+(?: \S+)*) -->$", re.MULTILINE)
OUTSIDE = re.compile(
    r"\]\((?:\.\./)+((?:README|CONTRIBUTING|CHANGELOG|LICENSE|graphs|plugins|docker|streamkp|tests)[^)\s]*)\)"
)


def main() -> int:
    """Build into `site/`; the exit code is 0, or 1 with every warning on stderr."""
    target = ROOT / "site"
    with tempfile.TemporaryDirectory(prefix="streamkp-docs-") as folder:
        pages = Path(folder) / "docs"
        warnings = _Warnings()
        try:
            copy_pages(pages)
            write_site(pages, target, warnings)
        except (Abort, reference.Unknown) as error:
            warnings.lines.append(str(error) or "the build was aborted")
    if not warnings.lines:
        warnings.lines += dead_links(target)
    for line in warnings.lines:
        print(f"docs: {line}", file=sys.stderr)
    if warnings.lines:
        return 1
    print(f"{sum(1 for _ in target.rglob('*.html'))} pages in {target}")
    return 0


def copy_pages(pages: Path) -> None:
    """The pages with what is generated in its place; links to files beside `docs/` lead to the repository."""
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.py", "mkdocs.yml", "__pycache__"))
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    (pages / "changelog.md").write_text(changes.replace("](docs/", "]("), "utf-8")
    for page in sorted(pages.rglob("*.md")):
        text = page.read_text("utf-8")
        text = MARKER.sub(lambda found, at=page: reference.make(found[1], at.parent), text)
        home = "../" * (len(page.relative_to(pages).parts) - 1)
        text = re.sub(r"\]\((?:\.\./)+CHANGELOG\.md\)", f"]({home}changelog.md)", text)
        page.write_text(OUTSIDE.sub(lambda found: f"]({REPOSITORY}{found[1]})", text), "utf-8")


def write_site(pages: Path, target: Path, warnings: _Warnings) -> None:
    """Run MkDocs on the pages."""
    settings = yaml.safe_load((DOCS / "mkdocs.yml").read_text("utf-8"))
    settings["nav"] = navigation(settings["nav"], pages)
    file = pages.parent / "mkdocs.yml"
    file.write_text(yaml.safe_dump(settings), "utf-8")
    config = load_config(str(file), docs_dir=str(pages), site_dir=str(target))
    for name in ("mkdocs", "griffe", "mkdocstrings"):
        logging.getLogger(name).addHandler(warnings)
    try:
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    finally:
        config.plugins.on_shutdown()


def navigation(nav: list[dict[str, object]], pages: Path) -> list[dict[str, object]]:
    """The navigation of `mkdocs.yml` without pages that do not exist yet; those it does not name end its How-to."""
    named: set[str] = set()

    def existing(entry: object) -> object:
        if isinstance(entry, str):
            named.add(entry)
            return entry if (pages / entry).is_file() else None
        if isinstance(entry, list):
            return [kept for each in entry if (kept := existing(each)) is not None]
        assert isinstance(entry, dict)
        ((title, below),) = entry.items()
        kept = existing(below)
        return {title: kept} if kept else None

    placed = existing(nav)
    assert isinstance(placed, list)
    others = sorted({str(page.relative_to(pages)) for page in pages.rglob("*.md")} - named)
    next(entry["How-to"] for entry in placed if "How-to" in entry).extend(others)
    return placed


class _Warnings(logging.Handler):
    """Everything that MkDocs and its plugins complain about."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class _Page(HTMLParser):
    """The ids and the links of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append(value)


def dead_links(site: Path) -> list[str]:
    """Links within the site that lead nowhere, in the finished pages: generated ones too."""
    pages: dict[Path, _Page] = {}
    for file in sorted(site.rglob("*.html")):
        pages[file] = _Page()
        pages[file].feed(file.read_text("utf-8"))
    dead = []
    for file, page in pages.items():
        if file.name == "404.html":  # its links are those of the address where the site will be
            continue
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc or link.startswith("/"):
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                dead.append(f"{file.relative_to(site)}: {link} leads nowhere")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
                dead.append(f"{file.relative_to(site)}: {link}: that page has no such heading")
    return dead


if __name__ == "__main__":
    sys.exit(main())
