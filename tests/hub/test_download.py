"""Downloads against a real server that cuts, lies, stalls and redirects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamkp.hub.download as download_module
from streamkp.errors import ModelError
from streamkp.hub.cancel import PullInterruptedError
from streamkp.hub.download import download, effective_url
from tests.hub import file_server
from tests.hub.file_server import FileServer

DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_BACKOFF_S", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "STREAMKP_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server.running() as running:
        yield running


def get(url: str, part: Path, **options: float) -> list[tuple[int, int | None]]:
    seen: list[tuple[int, int | None]] = []
    download(
        url,
        part,
        stop=threading.Event(),
        advance=lambda done, total: seen.append((done, total)),
        timeout=options.get("timeout", 10.0),
        max_bytes=int(options.get("max_bytes", 1 << 30)),
    )
    return seen


def test_whole_file_with_progress(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.file(DATA)
    seen = get(f"{server.url}/a", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part"]


def test_file_of_unannounced_length(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.unannounced(DATA)
    seen = get(f"{server.url}/a", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
    assert seen[-1] == (len(DATA), None)


def test_cut_connection_is_resumed_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.file(DATA, cuts=[300_000, 200_000])
    get(f"{server.url}/a", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=500000-"]


def test_part_of_an_earlier_run_is_continued(server: FileServer, tmp_path: Path) -> None:
    part = tmp_path / "part"
    server.answers["/a"] = server.stall(DATA, after=400_000)
    with pytest.raises(ModelError, match="did not answer in time"):
        get(f"{server.url}/a", part, timeout=0.2)
    assert part.stat().st_size == 400_000
    server.requests.clear()
    server.answers["/a"] = file_server.file(DATA)
    get(f"{server.url}/a", part)
    assert part.read_bytes() == DATA
    assert server.requests == [("/a", "bytes=400000-")]


def test_changed_file_starts_anew(server: FileServer, tmp_path: Path) -> None:
    other = DATA[::-1]
    server.answers["/a"] = file_server.in_turn(file_server.file(DATA, cuts=[300_000]), file_server.file(other))
    get(f"{server.url}/a", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == other


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_glued_together(
    server: FileServer, tmp_path: Path, etag: str | None
) -> None:
    server.answers["/a"] = file_server.file(DATA, cuts=[300_000], etag=etag)
    get(f"{server.url}/a", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
    assert [asked for _, asked in server.requests] == [None, None]


def test_part_longer_than_the_file_starts_anew(server: FileServer, tmp_path: Path) -> None:
    part = tmp_path / "part"
    server.answers["/a"] = file_server.file(DATA, cuts=[300_000])
    server.answers["/a"] = file_server.in_turn(server.answers["/a"], file_server.status(416), file_server.file(DATA))
    get(f"{server.url}/a", part)
    assert part.read_bytes() == DATA
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", None]


def test_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.in_turn(file_server.status(503), file_server.status(429), file_server.file(DATA))
    get(f"{server.url}/a", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA


def test_gives_up_on_a_server_that_stays_broken(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.status(500)
    with pytest.raises(ModelError, match=r"answered 500 .*5 times in a row"):
        get(f"{server.url}/a", tmp_path / "part")
    assert len(server.requests) == 5


def test_missing_file_is_not_asked_for_twice(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="/gone: the server answered 404 Not Found"):
        get(f"{server.url}/gone?token=secret", tmp_path / "part")
    assert len(server.requests) == 1


def test_errors_do_not_show_the_query(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        get(f"{server.url}/gone?token=secret", tmp_path / "part")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_redirect_to_a_web_page_is_not_a_file(server: FileServer, tmp_path: Path, content_type: str) -> None:
    server.answers["/a.pth"] = file_server.status(302, Location="/login")
    server.answers["/login"] = file_server.page(content_type)
    with pytest.raises(ModelError, match="/login: the server sent a web page"):
        get(f"{server.url}/a.pth", tmp_path / "part")


def test_redirect_to_the_file_is_followed_and_resumed(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.status(302, Location="/b")
    server.answers["/b"] = file_server.file(DATA, cuts=[300_000])
    get(f"{server.url}/a", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
    assert ("/b", "bytes=300000-") in server.requests


@pytest.mark.parametrize("location", ["http://models.example/a", "file:///etc/passwd", "ftp://models.example/a"])
def test_redirect_out_of_https_is_refused(server: FileServer, tmp_path: Path, location: str) -> None:
    server.answers["/a"] = file_server.status(302, Location=location)
    with pytest.raises(ModelError, match=r"must start with https://|is not allowed"):
        get(f"{server.url}/a", tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_endless_redirects_end(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.status(302, Location="/a")
    with pytest.raises(ModelError, match="302"):
        get(f"{server.url}/a", tmp_path / "part")


def test_plain_http_to_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must start with https://"):
        get("http://models.example/a", tmp_path / "part")


@pytest.mark.parametrize("answer", [file_server.file(DATA), file_server.unannounced(DATA)])
def test_size_limit(server: FileServer, tmp_path: Path, answer: file_server.Answer) -> None:
    server.answers["/a"] = answer
    with pytest.raises(ModelError, match="limit of 1,000"):
        get(f"{server.url}/a", tmp_path / "part", max_bytes=1000)


def test_refused_connection_names_the_address(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening
        port = held.getsockname()[1]
        with pytest.raises(ModelError, match=f"127.0.0.1:{port}/a: .*[Rr]efused"):
            get(f"http://127.0.0.1:{port}/a", tmp_path / "part")


def test_stop_ends_a_download(server: FileServer, tmp_path: Path) -> None:
    server.answers["/a"] = file_server.file(DATA)
    stop = threading.Event()
    with pytest.raises(PullInterruptedError, match="interrupted"):
        download(f"{server.url}/a", tmp_path / "part", stop=stop, advance=lambda done, total: stop.set(), timeout=10.0)
    assert 0 < (tmp_path / "part").stat().st_size < len(DATA)


def test_mirror_takes_the_place_of_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://host.org/a/b.pth?x=1"
    assert effective_url(address) == address
    monkeypatch.setenv("STREAMKP_MIRROR", "https://mirror.example/models/")
    assert effective_url(address) == "https://mirror.example/models/host.org/a/b.pth?x=1"


@pytest.mark.parametrize(
    "mirror", ["http://mirror.example", "mirror.example", "ftp://127.0.0.1", "https://u:p@m.example"]
)
def test_unsafe_mirror_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("STREAMKP_MIRROR", mirror)
    with pytest.raises(ModelError, match="STREAMKP_MIRROR") as caught:
        effective_url("https://host.org/a")
    assert "u:p" not in str(caught.value)
