from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkp.graph.join import Join
from streamkp.testing import make_packet


@given(st.lists(st.sets(st.integers(0, 30)), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_every_frame_comes_once_in_order_with_all_that_its_branches_added(branches, random) -> None:  # type: ignore[no-untyped-def]
    queues = [sorted(seqs) for seqs in branches]
    join, out = Join(len(branches)), []
    open_branches = set(range(len(branches)))
    while open_branches:
        branch = random.choice(sorted(open_branches))
        if queues[branch]:
            seq = queues[branch].pop(0)
            out += join.add(branch, make_packet(seq=seq, events=[{"branch": branch}]))
        else:
            open_branches.discard(branch)
            out += join.end(branch)
    assert [p.seq for p in out] == sorted(set().union(*branches))
    for packet in out:
        assert {e["branch"] for e in packet.events} == {i for i, seqs in enumerate(branches) if packet.seq in seqs}


def test_a_branch_that_says_nothing_does_not_make_the_join_grow() -> None:
    join = Join(2, limit=8)
    out = [p.seq for seq in range(100) for p in join.add(0, make_packet(seq=seq))]
    assert out == list(range(92))
