"""A node's side of leases."""

from __future__ import annotations

import math

from streamkp.fleet.holding import Holding
from streamkp.fleet.messages import Assignment, Grant


def grant(number: int, *, term: int = 1, revision: int = 1) -> Grant:
    return Grant(node="x", number=number, term=term, revision=revision, version=0, lease_s=4.0)


def held() -> Holding:
    holding = Holding()
    assert holding.assign(Assignment(node="x", term=1, revision=1, streams={"a": 3}))
    return holding


def test_a_lease_counts_from_when_the_beat_was_sent() -> None:
    holding = held()
    holding.sent(1, 0, 10.0)
    assert holding.wanted(10.0) == {}
    assert holding.granted(grant(1), 13.0)
    assert holding.wanted(13.9) == {"a": 3}
    assert holding.wanted(14.0) == {}


def test_an_old_answer_does_not_shorten_the_lease() -> None:
    holding = held()
    holding.sent(1, 0, 10.0)
    holding.sent(2, 0, 11.0)
    holding.granted(grant(2), 11.1)
    holding.granted(grant(1), 11.2)
    assert holding.deadline == 15.0


def test_a_grant_that_knows_of_a_newer_assignment_does_not_hold() -> None:
    holding = held()
    holding.sent(1, 0, 10.0)
    assert not holding.granted(grant(1, revision=2), 10.1)
    assert holding.deadline == -math.inf


def test_a_grant_or_assignment_of_an_earlier_supervisor_does_not_hold() -> None:
    holding = held()
    assert holding.assign(Assignment(node="x", term=2, revision=1))
    holding.sent(1, 0, 10.0)
    assert not holding.granted(grant(1, term=1), 10.1)
    assert not holding.assign(Assignment(node="x", term=1, revision=9, streams={"a": 9}))
    assert holding.assigned == {}


def test_without_supervisor_the_broker_is_enough_once_a_lease_was_had() -> None:
    holding = held()
    holding.sent(1, 0, 10.0)
    holding.unsupervised(1, 10.1)
    assert holding.deadline == -math.inf, "how long a lease is, is not known yet"
    holding.granted(grant(1), 10.2)
    holding.sent(2, 0, 12.0)
    holding.unsupervised(2, 12.1)
    assert holding.deadline == 16.0


def test_without_supervisor_a_lease_that_has_run_out_stays_so() -> None:
    holding = held()
    holding.sent(1, 0, 10.0)
    holding.granted(grant(1), 10.1)
    holding.sent(2, 0, 20.0)
    holding.unsupervised(2, 20.1)
    assert holding.wanted(20.1) == {}


def test_a_lapse_is_counted_and_each_start_has_an_epoch_of_its_own() -> None:
    holding = held()
    assert holding.next_epoch("a") == 3
    holding.used["a"] = 5
    assert holding.next_epoch("a") == 6
    assert holding.is_known("a", 3)
    assert not holding.is_known("a", 6)
    holding.sent(1, 0, 10.0)
    holding.granted(grant(1), 10.1)
    holding.sent(2, 0, 13.0)
    holding.granted(grant(2), 13.1)
    assert holding.lapses == 0
    holding.sent(3, 0, 20.0)
    holding.granted(grant(3), 20.1)
    assert holding.lapses == 1
