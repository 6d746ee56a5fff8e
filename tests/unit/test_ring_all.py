"""The limits of a session that rings for several agents at once, and rows of before there were any."""

from __future__ import annotations

import json

import pytest

from server.domain import events as ev
from server.domain.deadlines import deadlines
from server.domain.effects import routable
from server.domain.endings import EndReason, SegmentEnd
from server.domain.machine import Refused, Stale
from server.domain.session import KEPT_OFFERS, MAX_RINGING, REJECT_PAUSE_MS, Session
from server.domain.session_agents import MAX_OFFERS, MAX_SEGMENTS
from server.domain.session_step import step
from server.storage import codec

RULES = ev.QueueRules("que_1", "Sales", 20, 60, False, False, ring_all=True)
EVERYBODY = [f"usr_{number}" for number in range(MAX_RINGING)]


def waiting(rules: ev.QueueRules = RULES) -> Session:
    arrived = ev.CallArrived("ses_1", "default", "ept_1", rules, ev.Customer("Li"), "media-1")
    return step(step(None, arrived, 0), ev.LegOffered("leg_1_0", 1), 0)


def ring(s: Session, *agents: str, now: int = 0) -> Session:
    for agent in agents:
        s = step(s, ev.AgentOffered(agent, agent.title()), now)
    return s


def test_nobody_is_asked_twice_at_once_and_no_more_than_so_many() -> None:
    s = ring(waiting(), *EVERYBODY[:-1])
    assert routable(s)
    with pytest.raises(Refused, match="rings_already"):
        ring(s, EVERYBODY[3])
    s = ring(s, EVERYBODY[-1])
    assert not routable(s)
    with pytest.raises(Refused, match="rings_already"):
        ring(s, "usr_late")
    s = step(s, ev.AgentRejected(s.ringing[0].id, EVERYBODY[0]), 1)
    assert routable(s)
    with pytest.raises(Refused, match="agent_declined"):
        ring(s, EVERYBODY[0], now=REJECT_PAUSE_MS)
    assert len(ring(s, "usr_late").ringing) == MAX_RINGING


def test_each_offer_has_its_own_deadline_and_none_after_the_accept() -> None:
    s = ring(ring(waiting(), "usr_a"), "usr_b", now=7_000)
    assert sorted(d.at for d in deadlines(s) if d.kind == "offer") == [20_000, 27_000]
    s = step(s, ev.AgentAccepted(s.ringing[1].id, "usr_b"), 8_000)
    assert not [d for d in deadlines(s) if d.kind == "offer"]
    assert [(x.end_reason, x.done_at) for x in s.segments] == [(SegmentEnd.TAKEN, 8_000), (None, None)]
    with pytest.raises(Stale, match="offer_taken"):
        ring(s, "usr_c", now=9_000)


def test_a_queue_that_does_not_ring_all_asks_one() -> None:
    one = ring(waiting(ev.QueueRules("que_1", "Sales", 20, 60, False, False)), "usr_a")
    assert not routable(one)
    with pytest.raises(Stale, match="offer_taken"):
        ring(one, "usr_b")


def test_who_is_never_answered_ends_after_so_many_rounds_and_the_row_stays_small() -> None:
    s, rounds = waiting(), 0
    while not s.ended:
        for agent in EVERYBODY:
            s = s if s.ended else ring(s, agent, now=rounds)
        for offered in s.ringing:
            s = step(s, ev.AgentVanished(offered.id, offered.agent_id), rounds)
        rounds += 1
        assert len(s.segments) <= KEPT_OFFERS + MAX_RINGING
    assert (s.end_reason, s.offers) == (EndReason.SYSTEM_FAILED, MAX_OFFERS)
    assert [x.number for x in s.segments] == list(range(s.folded + 1, MAX_OFFERS + 1))
    assert MAX_OFFERS > 10 * MAX_SEGMENTS


def test_rows_and_events_of_before_are_read() -> None:
    s = waiting(ev.QueueRules("que_1", "Sales", 20, 60, False, False))
    row = json.loads(codec.SESSION.dump_json(s))
    del row["folded"], row["queue"]["ring_all"]
    assert codec.SESSION.validate_python(row) == s
    arrived = ev.CallArrived("ses_1", "default", "ept_1", s.queue, ev.Customer("Li"), "media-1")
    name, body = codec.EVENTS.dump(arrived)
    event = json.loads(body)
    del event["queue"]["ring_all"]
    assert codec.EVENTS.load(name, json.dumps(event)) == arrived
