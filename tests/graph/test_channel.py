"""The channel against a model of it, and under many threads."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamkp.graph.channel import END, Channel, Closed, Policy
from streamkp.testing import ManualClock

WAIT = 20.0
KEYS = ("a", "b", "c")
POLICIES: tuple[Policy, ...] = ("block", "drop-oldest", "drop-newest", "latest")


class ChannelModel(RuleBasedStateMachine):
    """Any interleaving of calls that need not wait gives what a plain list per lane would give."""

    @initialize(size=st.integers(1, 4), policies=st.tuples(*[st.sampled_from(POLICIES)] * len(KEYS)))
    def make(self, size: int, policies: tuple[Policy, ...]) -> None:
        self.policy = dict(zip(KEYS, policies, strict=True))
        self.size = {k: 1 if p == "latest" else size for k, p in self.policy.items()}
        self.channel: Channel[int] = Channel(size, self.policy.__getitem__)
        self.lanes: dict[str, deque[int]] = {}
        self.ended: set[str] = set()
        self.dropped = dict.fromkeys(KEYS, 0)
        self.turn: list[str] = []  # lanes with something to give, in the order they will give it
        self.count = 0

    def ready(self, key: str) -> None:
        if key not in self.turn:
            self.turn.append(key)

    def took(self, key: str) -> None:
        self.turn.remove(key)
        if self.lanes.get(key) or (key in self.ended and key in self.lanes):
            self.turn.append(key)

    def expect(self, key: str) -> object:
        lane = self.lanes[key]
        if lane:
            return lane.popleft()
        del self.lanes[key]
        self.ended.discard(key)
        return END

    @rule(key=st.sampled_from(KEYS))
    def put(self, key: str) -> None:
        if key in self.ended:
            return
        lane, policy = self.lanes.get(key, deque()), self.policy[key]
        full = len(lane) >= self.size[key]
        if full and policy == "block":
            return  # would wait: the threaded tests below cover it
        self.count += 1
        self.lanes[key] = lane
        assert self.channel.put(key, self.count) is not (full and policy == "drop-newest")
        if full:
            self.dropped[key] += 1
            if policy == "drop-newest":
                return
            lane.popleft()
        lane.append(self.count)
        self.ready(key)

    @rule(key=st.sampled_from(KEYS))
    def end(self, key: str) -> None:
        if key not in self.ended:
            self.channel.end(key)
            self.lanes.setdefault(key, deque())
            self.ended.add(key)
            self.ready(key)

    @precondition(lambda self: self.turn)
    @rule()
    def get(self) -> None:
        key = self.turn[0]
        assert self.channel.get() == (key, self.expect(key))
        self.took(key)

    @precondition(lambda self: self.turn)
    @rule(size=st.integers(1, 4))
    def get_batch(self, size: int) -> None:
        keys = list(self.turn)[:size]
        batch = self.channel.get_batch(size, 0.0, lambda: len(KEYS))
        assert sorted(k for k, _ in batch) == sorted(keys)
        for key, item in batch:
            assert item == self.expect(key)
        self.turn = [k for k in self.turn if k not in keys]
        for key in keys:
            if self.lanes.get(key) or (key in self.ended and key in self.lanes):
                self.turn.append(key)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "channel"):
            return
        assert self.channel.depths() == {k: len(v) for k, v in self.lanes.items()}
        assert self.channel.dropped() == {k: n for k, n in self.dropped.items() if n}
        assert len(self.channel) == sum(map(len, self.lanes.values()))


ChannelModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestChannelModel = ChannelModel.TestCase


def run(*targets: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=target, daemon=True) for target in targets]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive(), "a waiter was not woken"


@pytest.mark.parametrize("policy", POLICIES)
def test_many_producers_and_consumers_lose_and_invent_nothing(policy: Policy) -> None:
    channel: Channel[tuple[str, int]] = Channel(3, lambda _: policy, producers=6)
    got: list[list[tuple[str, int]]] = [[] for _ in range(3)]
    ends: list[str] = []
    accepted = [0] * 6

    def produce(i: int) -> None:
        for n in range(400):
            accepted[i] += channel.put(f"s{i}", (f"s{i}", n))
        channel.end(f"s{i}")
        channel.close()

    def consume(mine: list[tuple[str, int]]) -> None:
        try:
            while True:
                key, item = channel.get()
                if item is END:
                    ends.append(key)
                else:
                    mine.append(item)  # type: ignore[arg-type]
        except Closed:
            pass

    join(run(*[lambda i=i: produce(i) for i in range(6)], *[lambda m=m: consume(m) for m in got]))
    everything = [entry for mine in got for entry in mine]
    assert len(set(everything)) == len(everything)
    assert sorted(ends) == [f"s{i}" for i in range(6)]
    dropped = sum(channel.dropped().values())
    assert len(everything) + dropped == 6 * 400
    assert dropped == 0 or policy != "block"
    for mine in got:  # each consumer sees the order of each stream
        for i in range(6):
            seqs = [n for key, n in mine if key == f"s{i}"]
            assert seqs == sorted(seqs)


def test_a_full_lane_holds_up_its_own_stream_only() -> None:
    channel: Channel[int] = Channel(1, lambda _: "block")
    channel.put("slow", 1)
    blocked = run(lambda: channel.put("slow", 2))
    assert channel.put("fast", 1)
    assert channel.get() == ("slow", 1)
    join(blocked)
    assert sorted([channel.get(), channel.get()]) == [("fast", 1), ("slow", 2)]


def test_abort_wakes_everyone_who_waits() -> None:
    full: Channel[int] = Channel(1, lambda _: "block")
    empty: Channel[int] = Channel(1, lambda _: "block")
    full.put("a", 1)
    outcomes: list[str] = []

    def expect_closed(call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except Closed:
            outcomes.append("closed")

    threads = run(
        lambda: expect_closed(lambda: full.put("a", 2)),
        lambda: expect_closed(lambda: full.put("a", 3)),
        lambda: expect_closed(empty.get),
        lambda: expect_closed(lambda: empty.get_batch(4, 60.0, lambda: 2)),
    )
    full.abort()
    empty.abort()
    join(threads)
    assert outcomes == ["closed"] * 4
    with pytest.raises(Closed):
        full.put("b", 1)


def test_close_gives_out_what_is_inside() -> None:
    channel: Channel[int] = Channel(4, lambda _: "block", producers=2)
    channel.put("a", 1)
    channel.end("a")
    channel.close()
    channel.put("b", 2)  # the second producer goes on
    channel.close()
    assert [channel.get(), channel.get(), channel.get()] == [("a", 1), ("b", 2), ("a", END)]
    with pytest.raises(Closed):
        channel.get()


def test_a_batch_waits_no_longer_than_its_deadline() -> None:
    clock = ManualClock()
    channel: Channel[int] = Channel(4, lambda _: "block", clock)
    batches: list[object] = []
    for n in (1, 2):
        channel.put("talks", n)
    waiter = run(lambda: batches.append(channel.get_batch(8, 0.004, lambda: 2)))
    assert clock.waits.acquire(timeout=WAIT)
    clock.advance(0.003)
    assert clock.waits.acquire(timeout=WAIT)  # not yet: it waits for the rest
    assert batches == []
    clock.advance(0.001)
    join(waiter)
    assert batches == [[("talks", 1)]]
    assert channel.get_batch(8, 0.004, lambda: 1) == [("talks", 2)]  # all live streams have delivered: no wait


def test_a_batch_ends_as_soon_as_every_live_stream_has_delivered() -> None:
    clock = ManualClock()
    channel: Channel[int] = Channel(4, lambda _: "block", clock)
    batches: list[object] = []
    channel.put("a", 1)
    waiter = run(lambda: batches.append(channel.get_batch(8, 60.0, lambda: 2)))
    assert clock.waits.acquire(timeout=WAIT)
    channel.put("b", 1)
    join(waiter)
    assert batches == [[("a", 1), ("b", 1)]]


def test_a_held_packet_stays_while_other_lanes_go_on() -> None:
    held = {"a1"}
    channel: Channel[str] = Channel(4, lambda _: "block", holds=held.__contains__)
    for item in ("a0", "a1", "a2", "b0", "b1"):
        channel.put(item[0], item)
    for key in "ab":
        channel.end(key)
    got = [channel.get()[1] for _ in range(4)]
    assert got == ["a0", "b0", "b1", END]
    channel.close()
    rest: list[object] = []
    reader = threading.Thread(target=lambda: rest.extend(channel.get()[1] for _ in range(3)))
    reader.start()
    held.clear()
    channel.wake()
    reader.join(WAIT)
    assert rest == ["a1", "a2", END]


def test_a_held_packet_is_not_put_into_a_batch() -> None:
    channel: Channel[str] = Channel(4, lambda _: "block", holds={"b0"}.__contains__)
    for item in ("a0", "b0", "c0"):
        channel.put(item[0], item)
    assert channel.get_batch(8, 0.0, lambda: 3) == [("a", "a0"), ("c", "c0")]


def test_a_lane_that_goes_alone_shares_no_batch() -> None:
    channel: Channel[str] = Channel(4, lambda _: "block")
    for item in ("a0", "b0", "c0", "c1"):
        channel.put(item[0], item)
    batches = [channel.get_batch(8, 0.0, lambda: 1, {"b"}.__contains__) for _ in range(3)]
    assert batches == [[("a", "a0"), ("c", "c0")], [("b", "b0")], [("c", "c1")]]


def test_aborting_wakes_a_reader_of_held_packets() -> None:
    asked = threading.Event()

    def holds(item: str) -> bool:
        asked.set()
        return True

    channel: Channel[str] = Channel(4, lambda _: "block", holds=holds)
    channel.put("a", "a0")
    ended: list[type[BaseException]] = []

    def read() -> None:
        try:
            channel.get()
        except Closed as error:
            ended.append(type(error))

    reader = threading.Thread(target=read)
    reader.start()
    assert asked.wait(WAIT)
    channel.abort()
    reader.join(WAIT)
    assert ended == [Closed]


def test_what_a_full_lane_drops_is_told() -> None:
    lost: list[int] = []
    channel: Channel[int] = Channel(1, lambda key: "drop-oldest" if key == "old" else "drop-newest", lost=lost.append)
    for key in ("old", "new"):
        for item in range(3):
            channel.put(key, item + (0 if key == "old" else 10))
    assert lost == [0, 1, 11, 12]
