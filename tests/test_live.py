"""`streamkp.stream`: results in Python as they come."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

import streamkp
from streamkp import Graph, Packet, SourceError, UsageError
from streamkp.graph.stage import Source, StreamContext
from tests.sources.videos import write_clip


class Silent(Source):
    """A camera that sends nothing."""

    @classmethod
    def is_live(cls, uri: str) -> bool:
        return True

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        while not stream.wait(3600):
            pass
        return iter(())


@pytest.fixture(autouse=True)
def _no_thread_stays() -> object:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("streamkp-")]
    for thread in left:  # a cancelled caller does not stay to see them end
        thread.join(30)
    assert not [thread for thread in left if thread.is_alive()]


def plain() -> Graph:
    """Only a source: what comes out are the decoded frames."""
    return Graph().add("decode").add("publish", "publish-websocket", port=0)


async def collect(*uris: str, graph: Graph | None = None) -> list[Packet]:
    return [result async for result in streamkp.stream(*uris, graph=graph or plain())]


def test_every_frame_of_a_file_comes(tmp_path: Path) -> None:
    results = asyncio.run(collect(str(write_clip(tmp_path / "clip.mp4", frames=30))))
    assert [result.seq for result in results] == list(range(30))
    assert results[0].image is not None
    assert results[0].image.shape == (48, 64, 3)


def test_several_files_come_side_by_side(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{n}.mp4", frames=n) for n in (10, 20)]
    results = asyncio.run(collect(*map(str, clips)))
    for name, frames in (("stream0", 10), ("stream1", 20)):
        assert [result.seq for result in results if result.stream == name] == list(range(frames))


def test_leaving_early_ends_the_run(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=300, plain=True)

    async def first_three() -> list[int]:
        seqs = []
        async with aclosing(streamkp.stream(str(clip), graph=plain())) as results:
            async for result in results:
                seqs.append(result.seq)
                if len(seqs) == 3:
                    break
        return seqs

    assert asyncio.run(first_three()) == [0, 1, 2]


def test_leaving_early_without_a_word_ends_the_run(tmp_path: Path) -> None:
    clip, before = write_clip(tmp_path / "clip.mp4", frames=300, plain=True), set(threading.enumerate())

    async def first() -> int:
        async for result in streamkp.stream(str(clip), graph=plain()):
            return result.seq
        return -1

    assert asyncio.run(first()) == 0
    assert set(threading.enumerate()) <= before, "nor any thread of the event loop's"


def test_a_caller_that_fails_ends_the_run(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=300, plain=True)

    async def fail() -> None:
        async for _ in streamkp.stream(str(clip), graph=plain()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fail())


def test_a_cancelled_caller_ends_the_run(tmp_path: Path) -> None:
    graph = plain().stream("unused", "0")
    clip = write_clip(tmp_path / "clip.mp4", frames=30)

    async def cancel() -> None:
        started = asyncio.Event()

        async def watch() -> None:
            async for _ in streamkp.stream(str(clip), graph=graph):
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(watch())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def test_a_missing_file_is_an_error_and_nothing_comes(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file .*nothing\.mp4"):
        asyncio.run(collect(str(tmp_path / "nothing.mp4")))


def test_the_others_come_whole_although_one_is_missing(tmp_path: Path) -> None:
    clip, seqs = write_clip(tmp_path / "clip.mp4", frames=20), []

    async def watch() -> None:
        async for result in streamkp.stream(str(tmp_path / "nothing.mp4"), str(clip), graph=plain()):
            seqs.append((result.stream, result.seq))

    with pytest.raises(SourceError, match="nothing"):
        asyncio.run(watch())
    assert seqs == [("stream1", n) for n in range(20)]


def test_the_sinks_of_the_graph_are_left_out(tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "clip.mp4", frames=3), tmp_path / "out.jsonl"
    graph = Graph().add("decode").add("record", path=str(out))
    for _ in range(2):  # the same graph serves again
        assert len(asyncio.run(collect(str(clip), graph=graph))) == 3
    assert not out.exists()


def test_what_could_be_read_comes_before_the_error(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=60, keyframes_every=10)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    seqs: list[int] = []

    async def watch() -> None:
        async for result in streamkp.stream(str(clip), graph=plain()):
            seqs.append(result.seq)

    with pytest.raises(SourceError, match="cut off"):
        asyncio.run(watch())
    assert seqs == list(range(len(seqs)))
    assert 10 < len(seqs) < 60


def test_a_wrong_graph_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        asyncio.run(collect("0", graph=Graph().add("decode").add("windw").add("publish-websocket")))


def test_a_wait_may_be_cancelled_and_nothing_is_lost(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=60, plain=True)

    async def impatient() -> tuple[list[int], int]:
        results, seqs, given_up = streamkp.stream(clip, graph=plain()), [], 0
        while True:
            waiting = asyncio.ensure_future(anext(results))
            await asyncio.sleep(0)
            if not waiting.done():
                given_up += 1
                waiting.cancel()
                await asyncio.wait({waiting})
                waiting = asyncio.ensure_future(anext(results))
            try:
                seqs.append((await waiting).seq)
            except StopAsyncIteration:
                return seqs, given_up

    seqs, given_up = asyncio.run(impatient())
    assert given_up > 0
    assert seqs == list(range(60)), "in order, none twice, none lost"


def test_a_wait_with_a_deadline(tmp_path: Path) -> None:
    """A stream that has nothing to say yet goes on after `wait_for` has given up."""
    clip = write_clip(tmp_path / "clip.mp4", frames=20, plain=True)

    async def watch() -> list[int]:
        results = streamkp.stream(clip, graph=plain())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(results), 0)
        return [result.seq async for result in results]

    assert asyncio.run(watch()) == list(range(20))


def test_streams_hold_no_thread_of_the_loop(tmp_path: Path) -> None:
    """More streams than the loop's executor has threads, all of them waiting, and it still answers."""
    clip = write_clip(tmp_path / "clip.mp4", frames=60, plain=True)
    silent = Graph().stream("a", "0").add("source", Silent).add("publish", "publish-websocket", port=0)

    async def watch() -> int:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        waiting = [streamkp.stream(graph=silent) for _ in range(6)]
        tasks = [asyncio.ensure_future(anext(each)) for each in waiting]
        await asyncio.wait(tasks, timeout=0)
        assert await loop.getaddrinfo("127.0.0.1", 80)
        frames = len(await collect(str(clip)))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for each in waiting:
            await each.aclose()
        return frames

    assert asyncio.run(watch()) == 60


def test_the_graph_of_the_caller_stays_as_it_is(tmp_path: Path) -> None:
    clip, own = (write_clip(tmp_path / f"{n}.mp4", frames=n) for n in (10, 20))
    graph = plain().stream("mine", str(own))
    before = graph.validate()
    assert len(asyncio.run(collect(str(clip), graph=graph))) == 10
    assert graph.validate() == before
    results = asyncio.run(collect(graph=graph))
    assert {result.stream for result in results} == {"mine"}
    assert len(results) == 20


def test_paths_are_sources_too(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=10)
    assert len(asyncio.run(collect(clip))) == 10  # type: ignore[arg-type]


def test_neither_source_nor_graph_names_a_source() -> None:
    with pytest.raises(UsageError, match="no source"):
        streamkp.stream(graph=plain())
    with pytest.raises(UsageError, match="not bytes"):
        streamkp.stream(b"clip.mp4", graph=plain())  # type: ignore[arg-type]


def test_a_block_ends_the_run(tmp_path: Path) -> None:
    clip, before = write_clip(tmp_path / "clip.mp4", frames=300, plain=True), set(threading.enumerate())

    async def first() -> None:
        async with streamkp.stream(clip, graph=plain()) as results:
            assert (await anext(results)).seq == 0
        assert set(threading.enumerate()) <= before
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        await results.aclose()

    asyncio.run(first())


def test_one_loop_only(tmp_path: Path) -> None:
    results = streamkp.stream(write_clip(tmp_path / "clip.mp4", frames=300, plain=True), graph=plain())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(anext(results))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="another event loop"):
        asyncio.run(anext(results))  # type: ignore[arg-type]
    loop.run_until_complete(results.aclose())
    loop.close()


def test_a_program_that_just_ends_is_not_held_up(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, streamkp\n"
        "graph = streamkp.Graph().add('decode').add('publish', 'publish-websocket', port=0)\n"
        "results, loop = streamkp.stream(sys.argv[1], graph=graph), asyncio.new_event_loop()\n"
        "print(loop.run_until_complete(anext(results)).seq)\n"
    )
    clip = write_clip(tmp_path / "clip.mp4", frames=300, plain=True)
    done = subprocess.run([sys.executable, "-c", program, str(clip)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_options_of_the_streams(tmp_path: Path) -> None:
    async def sizes() -> set[tuple[int, int]]:
        clip = str(write_clip(tmp_path / "clip.mp4", frames=30))
        stream = streamkp.stream(clip, graph=plain(), max_fps=10, max_side=32)
        results = [result async for result in stream]
        assert len(results) == 10
        return {(result.width, result.height) for result in results}

    assert asyncio.run(sizes()) == {(32, 24)}
    with pytest.raises(UsageError, match="max_fps: for the streams that the call names"):
        streamkp.stream(graph=plain().stream("a", "a.mp4"), max_fps=5)
