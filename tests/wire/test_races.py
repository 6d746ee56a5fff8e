"""Two who act at the same moment, many times over, on a whole running system: one wins, the other reads why, and the
books balance."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.helpers.administration import change_queue
from tests.helpers.customer import Customer
from tests.helpers.scripted_agent import AgentRefused, ScriptedAgent
from tests.helpers.system import PASSWORD, System, system, until

pytestmark = pytest.mark.usefixtures("deployment")
ROUNDS = 40
AROUND_DEADLINE_S = (-0.1, -0.02, -0.012, -0.008, -0.004, -0.002, 0.0, 0.004)  # the way there takes some ms
RING_TIMEOUT_S = 1
NAMES = {"ana": "Ana Duarte", "bo": "Bo Lindqvist"}
SETTLE_S = 5.0


@asynccontextmanager
async def desk(patchbay: System, login: str, *, media: bool) -> AsyncIterator[ScriptedAgent]:
    async with ScriptedAgent(patchbay.url, login, PASSWORD, media=media) as agent:
        await agent.set_state("ready")
        yield agent


async def attempt(agent: ScriptedAgent, segment_id: str, after_s: float = 0) -> AgentRefused | None:
    """Accept after a while; what the agent reads when it was too late."""
    await asyncio.sleep(after_s)  # part of what is tested: the two meet at every distance
    try:
        await agent.accept(segment_id)
    except AgentRefused as refusal:
        return refusal
    return None


async def later(customer: Customer, after_s: float) -> None:
    await asyncio.sleep(after_s)  # as above
    await customer.hang_up()


async def settled(patchbay: System) -> None:
    """Nothing is under way any more: every session is over, its orders carried out, its recordings finished."""

    async def nothing() -> bool:
        return patchbay.rows("SELECT (SELECT COUNT(*) FROM session WHERE NOT done), (SELECT COUNT(*) FROM outbox)") == [
            (0, 0)
        ]

    await until(nothing, SETTLE_S, "every session done")


def the_books_balance(patchbay: System) -> None:
    """Each session ended once, each wait ended once and as it was, each talk has its wrap-up and nothing else has."""
    calls = patchbay.rows("SELECT COUNT(*) FROM session")[0][0]
    assert patchbay.rows("SELECT COUNT(*) FROM session WHERE state = 'ended' AND ended_at IS NOT NULL") == [(calls,)]
    assert patchbay.rows("SELECT COUNT(*) FROM session_event WHERE type = 'CustomerHungUp'") == [(calls,)]
    assert patchbay.rows("SELECT COUNT(*), COUNT(ended_at), COUNT(outcome) FROM queue_visit") == [(calls,) * 3]
    talked = "SELECT COUNT(*) FROM segment WHERE talk_started_at IS NOT NULL AND session_id = v.session_id"
    assert not patchbay.rows(
        f"SELECT v.session_id, v.outcome FROM queue_visit v WHERE (v.outcome = 'answered') <> (({talked}) = 1)"
    )
    assert not patchbay.rows("SELECT id FROM segment WHERE done_at IS NULL OR state <> 'done'")
    assert not patchbay.rows("SELECT id FROM segment WHERE (talk_started_at IS NULL) <> (talk_ended_at IS NULL)")
    wrapped = patchbay.rows("SELECT body FROM agent_event WHERE type = 'ContactMoved' AND body LIKE '%wrap_up%'")
    assert [(len(wrapped),)] == patchbay.rows("SELECT COUNT(*) FROM segment WHERE talk_started_at IS NOT NULL")
    assert not patchbay.rows("SELECT user_id, body FROM agent WHERE json_extract(body, '$.contacts') <> '[]'")


async def test_accept_against_hang_up(tmp_path: Path) -> None:
    """Before anybody was heard: the customer has left, nothing is wrapped up, and the agent is ready again."""
    outcomes: Counter[str] = Counter()
    async with system(tmp_path, workers=1) as patchbay, desk(patchbay, "ana", media=False) as ana:
        for number in range(ROUNDS):
            await ana.at_leisure()
            customer = Customer(patchbay)
            await customer.begin()
            offer = await ana.contact("offered", customer.session_id)
            lead_s = (number % 9 - 4) / 1000  # from 4 ms before the hang-up to 4 ms after it
            refusal, _ = await asyncio.gather(
                attempt(ana, offer["segment_id"], max(0.0, lead_s)), later(customer, max(0.0, -lead_s))
            )
            done = await ana.contact("done", customer.session_id)
            assert done["end_reason"] == "customer_left"
            assert refusal is None or refusal.code == "customer_left"
            await ana.in_state("ready")
            await customer.close()
            outcomes["accepted first" if refusal is None else "hung up first"] += 1
        print(dict(outcomes))
        assert len(outcomes) == 2, "the two never met"
        await settled(patchbay)
        the_books_balance(patchbay)
        assert patchbay.rows("SELECT DISTINCT end_reason FROM session") == [("abandoned",)]
        assert patchbay.rows("SELECT DISTINCT outcome FROM queue_visit") == [("abandoned",)]


async def test_the_first_moment_of_talk_against_hang_up(tmp_path: Path) -> None:
    """Around the moment when both become audible: wrap-up, recording and an answered wait, or none of them."""
    outcomes: Counter[str] = Counter()
    async with system(tmp_path, workers=1) as patchbay, desk(patchbay, "ana", media=True) as ana:
        disposition_id = patchbay.rows("SELECT id FROM disposition")[0][0]
        for number in range(ROUNDS // 2):
            await ana.at_leisure()
            customer = Customer(patchbay)
            await customer.begin()
            offer = await ana.contact("offered", customer.session_id)
            await asyncio.gather(attempt(ana, offer["segment_id"]), later(customer, number * 0.006))

            def over(segment_id: str = offer["segment_id"]) -> bool:
                return ana.contacts[segment_id]["state"] in ("wrap_up", "done")

            await ana.until(over, "the contact's end")
            contact = ana.contacts[offer["segment_id"]]
            assert contact["end_reason"] == ("customer_hung_up" if contact["talk_started_at"] else "customer_left")
            assert contact["state"] == ("wrap_up" if contact["talk_started_at"] else "done")
            if contact["state"] == "wrap_up":
                await ana.wrap_up(disposition_id)
            await ana.in_state("ready")
            await customer.close()
            outcomes["talked" if contact["talk_started_at"] else "left"] += 1
        print(dict(outcomes))
        await settled(patchbay)
        the_books_balance(patchbay)
        assert patchbay.rows("SELECT COUNT(*) FROM recording") == [(outcomes["talked"],)]
        # A talk that was over before the capture began is short, and its recording a moment of silence.
        talk_ms = "s.talk_ended_at - s.talk_started_at"
        kept = patchbay.rows(
            f"SELECT r.state, r.reason, {talk_ms}, r.duration_ms FROM recording r JOIN segment s ON s.id = r.segment_id"
        )
        print(kept)
        assert all((state, reason) == ("ready", None) for state, reason, *_ in kept)
        assert all(abs(duration - talk) <= 200 for *_, talk, duration in kept)


async def test_two_agents_accept_at_the_deadline(tmp_path: Path) -> None:
    """The first agent accepts around the deadline, or just when the second does: exactly one has the customer."""
    outcomes: Counter[str] = Counter()
    async with (
        system(tmp_path, workers=1) as patchbay,
        desk(patchbay, "ana", media=False) as ana,
        desk(patchbay, "bo", media=False) as bo,
    ):
        await ring_quickly(patchbay)
        agents = {"ana": ana, "bo": bo}
        for number in range(2 * len(AROUND_DEADLINE_S)):
            await asyncio.gather(ana.at_leisure(), bo.at_leisure())
            customer = Customer(patchbay)
            await customer.begin()
            first = await first_to_ring(agents, customer.session_id)
            second = "bo" if first == "ana" else "ana"
            offer = await agents[first].contact("offered", customer.session_id)
            if number % 2:  # late: both at once, when the second one's rings
                other = await agents[second].contact("offered", customer.session_id)
                lost, won = await asyncio.gather(
                    attempt(agents[first], offer["segment_id"]), attempt(agents[second], other["segment_id"])
                )
                assert won is None
            else:  # at the deadline, some ms before or after it
                agents[second].auto_accept = True
                at_s = offer["offer_deadline_at"] / 1000 + AROUND_DEADLINE_S[number // 2]
                lost = await attempt(agents[first], offer["segment_id"], at_s - time.time())
                agents[second].auto_accept = lost is not None
            winner = second if lost else first
            held = await agents[winner].contact("connecting", customer.session_id)
            agents[second].auto_accept = False
            accepted = "SELECT id FROM segment WHERE session_id = ? AND accepted_at IS NOT NULL"
            assert patchbay.rows(accepted, customer.session_id) == [(held["segment_id"],)]
            if lost is not None:
                assert lost.code in ("offer_expired", "offer_taken")
                assert lost.params == ({"agent": NAMES[second]} if lost.code == "offer_taken" else {})
                await agents[first].in_state("missed")
            outcomes[lost.code if lost else "in time"] += 1
            await customer.hang_up()
            await agents[winner].in_state("ready")
            if lost is not None:
                await agents[first].set_state("ready")
            await customer.close()
        print(dict(outcomes))
        assert {"in time", "offer_expired"} <= set(outcomes)
        await settled(patchbay)
        the_books_balance(patchbay)


async def ring_quickly(patchbay: System) -> None:
    """RING_TIMEOUT_S, below what the form of a queue takes: the rounds are many."""
    patchbay.rows("UPDATE queue SET ring_timeout_s = ?", RING_TIMEOUT_S)
    await change_queue(patchbay, service_level_s=30)  # any change at all: the server reads its set-up again


async def first_to_ring(agents: Mapping[str, ScriptedAgent], session_id: str) -> str:
    """Whose desk the session rings at first."""

    async def ringing() -> str | None:
        held = ((name, c) for name, agent in agents.items() for c in agent.contacts.values())
        return next((name for name, c in held if c["session_id"] == session_id), None)

    return str(await until(ringing, SETTLE_S, "a ring", every_s=0.01))
