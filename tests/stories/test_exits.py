"""Being called back in turn, and leaving a message: with twins of what will carry them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from server.domain import events as ev
from server.domain.machine import Refused
from server.domain.queue_life import LIFE, Exit, QueueLife, life_from_json, life_to_json
from server.domain.session import derived_id
from server.ids import new_id
from server.services.exits import Exits
from server.services.tokens import CustomerToken
from tests.helpers import invariants as inv
from tests.helpers.deployments import Deployment
from tests.helpers.world import TENANT, World, world

NUMBER = "+493012345678"
OUTCOMES = "SELECT outcome FROM queue_visit ORDER BY entered_at, id"


@dataclass
class TwinDialer:
    """`CallbackDialer` that notes whom it is to call."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False

    async def dial(self, session_id: str, leg_id: str, number: str) -> None:
        if self.broken:
            raise OSError("the trunk is away")
        assert leg_id == derived_id(session_id, "leg", 0)
        self.asked.append((session_id, number))


@dataclass
class TwinVoicemail:
    """`Voicemail` that notes who is to be greeted."""

    begun: list[str] = field(default_factory=list)

    async def begin(self, session_id: str, leg_id: str) -> None:
        self.begun.append(session_id)


@pytest.fixture
async def dialer() -> TwinDialer:
    return TwinDialer()


@pytest.fixture
async def voicemail() -> TwinVoicemail:
    return TwinVoicemail()


@pytest.fixture
async def w(
    tmp_path: Path, own_or_shared: Deployment, dialer: TwinDialer, voicemail: TwinVoicemail
) -> AsyncIterator[World]:
    async with world(tmp_path, exits=Exits(dialer, voicemail)) as made:
        live(made, QueueLife(max_wait_s=30, exit=Exit.CALLBACK))
        yield made


def live(w: World, life: QueueLife) -> None:
    w.directory.queue_list = [replace(q, life=life) if q.queue_id == "que_sales" else q for q in w.directory.queue_list]


async def phone_call(w: World, number: str = NUMBER) -> CustomerToken:
    """A customer whose number is known, as a phone call will bring it."""
    token = CustomerToken(TENANT, new_id("ses"), "ept_sales", w.clock.now_ms() + 10**9)
    await w.core.sessions.call(token, ev.Customer("Li", number=number), "v=0 offer")
    await w.settle()
    await w.leg_up(token, "customer")
    return token


async def rings(w: World, call: CustomerToken) -> None:
    """The dialler's line: it rings."""
    leg = (await w.session(call)).customer_leg
    await w.core.stepper.apply(call.session_id, ev.LegOffered(leg.id, leg.generation + 1, "v=0 trunk"))
    await w.settle()


async def test_who_waits_too_long_is_called_back_in_turn(w: World, dialer: TwinDialer) -> None:
    first = await phone_call(w)
    await w.after(10)
    later = await w.call()
    before = (await w.session(first)).order_key
    await w.after(20)
    away = await w.session(first)
    assert (away.state, away.worker_id, away.order_key) == ("place_kept", None, before)
    assert await w.store.waiting(TENANT, "que_sales") == 2
    assert dialer.asked == [], "nobody is free"

    await w.ready("ana")
    assert (await w.offered_to(first), await w.offered_to(later)) == ("ana", None), "in turn"
    assert dialer.asked == [(first.session_id, NUMBER)]
    assert (await w.session(first)).worker_id is not None
    await rings(w, first)
    await w.accept(first, "ana")
    await w.ready("bo")
    assert await w.offered_to(later) == "bo"
    await w.after(20)
    assert (await w.session(first)).state == "queued", "a phone rings for longer than a browser connects"
    await w.leg_up(first, "customer")
    talk = await w.session(first)
    assert (talk.state, talk.callback) == ("connected", None)
    assert [v.outcome for v in talk.visits] == ["callback"]
    log = inv.read_log(w.database)
    for verdict in (inv.rows_are_folds(log), inv.only_allowed_steps(log)):
        assert verdict.holds, verdict


async def test_who_would_rather_wait_than_be_called_waits_as_long_as_anybody(w: World, dialer: TwinDialer) -> None:
    call = await phone_call(w)
    await w.after(80)
    await w.core.sessions.take_place(call)
    leg = (await w.session(call)).customer_leg
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0 offer")
    await w.settle()
    await w.leg_up(call, "customer")
    await w.after(29)
    assert (await w.session(call)).state == "queued", "the longest wait counts from here"
    await w.after(1)
    assert (await w.session(call)).state == "place_kept"
    assert dialer.asked == []


async def test_a_call_that_could_not_be_made_is_tried_again(w: World, dialer: TwinDialer) -> None:
    """By whichever node looks next: the one that was to make it may be dead."""
    call = await phone_call(w)
    await w.after(30)
    dialer.broken = True
    await w.ready("ana")
    assert await w.offered_to(call) == "ana"
    assert dialer.asked == []
    dialer.broken = False
    await w.core.exits.resume()
    await w.settle()
    assert dialer.asked == [(call.session_id, NUMBER)]
    await rings(w, call)
    await w.core.exits.resume()
    await w.settle()
    assert dialer.asked == [(call.session_id, NUMBER)], "it rings"


async def test_who_answered_the_call_and_was_cut_off_is_lost(w: World) -> None:
    call = await phone_call(w)
    await w.after(30)
    await w.ready("ana")
    await rings(w, call)
    await w.leg_up(call, "customer")
    await w.leg_down(call, "customer")
    await w.after(30)
    assert (await w.session(call)).end_reason == "customer_lost"


async def test_an_agent_who_declines_leaves_the_call_to_the_next(w: World, dialer: TwinDialer) -> None:
    call = await phone_call(w)
    await w.after(30)
    await w.ready("ana")
    await rings(w, call)
    (ringing,) = (await w.session(call)).ringing
    await w.core.sessions.reject(w.user("ana"), call.session_id, ringing.id)
    await w.ready("bo")
    assert await w.offered_to(call) == "bo"
    assert len(dialer.asked) == 1, "the customer is called once"


async def test_who_does_not_answer_was_tried(w: World, dialer: TwinDialer) -> None:
    call = await phone_call(w)
    await w.after(30)
    await w.ready("ana")
    assert len(dialer.asked) == 1
    await rings(w, call)
    assert await w.offered_to(call) == "ana"
    await w.core.stepper.apply(call.session_id, ev.CallbackMissed("no_answer"))
    await w.settle()
    assert (await w.session(call)).end_reason == "callback_unanswered"
    assert await w.rows(OUTCOMES) == [("callback",)]
    assert await w.agent_state("ana") == "ready", "no blame"


async def test_a_dialler_that_says_nothing_leaves_nobody_behind(w: World) -> None:
    call = await phone_call(w)
    await w.after(30)
    await w.ready("ana")
    await w.after(30)
    assert (await w.session(call)).end_reason == "system_failed", "nobody knows that it rang: ours, not the customer's"


async def test_without_a_worker_nobody_is_dialled_and_the_failure_is_ours(w: World, dialer: TwinDialer) -> None:
    call = await phone_call(w)
    await w.after(30)
    for worker in ("media-1", "media-2"):
        await w.engine.kill(worker)
    await w.ready("ana")
    assert dialer.asked == []
    await w.after(30)
    assert (await w.session(call)).end_reason == "system_failed"


async def test_a_callback_whose_turn_does_not_come_is_our_failure(w: World) -> None:
    call = await phone_call(w)
    await w.after(30)
    await w.after(8 * 3600)
    assert (await w.session(call)).end_reason == "callback_not_made"
    assert await w.rows(OUTCOMES) == [("failed",)]


async def test_who_asked_for_a_call_may_come_back_before_it(w: World, dialer: TwinDialer) -> None:
    call = await w.call()
    await w.core.sessions.ask_callback(call, NUMBER)
    await w.core.sessions.take_place(call)
    leg = (await w.session(call)).customer_leg
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0 offer")
    await w.settle()
    await w.leg_up(call, "customer")
    await w.ready("ana")
    assert (await w.offered_to(call), dialer.asked) == ("ana", [])


async def test_where_a_queue_does_not_call_back_or_knows_no_number_it_goes_on_as_ever(w: World) -> None:
    live(w, QueueLife(max_wait_s=30, exit=Exit.CALLBACK, overflow_queue_id="que_support"))
    unknown = await w.call()
    await w.after(30)
    assert (await w.session(unknown)).queue.queue_id == "que_support"
    with pytest.raises(Refused, match="callback_not_offered"):
        await w.core.sessions.ask_callback(unknown, NUMBER)


async def test_a_message_may_be_left(w: World, voicemail: TwinVoicemail) -> None:
    live(w, QueueLife(max_wait_s=30, exit=Exit.VOICEMAIL))
    calls = [await w.call() for _ in range(3)]
    await w.after(30)
    states = [(await w.session(call)).state for call in calls]
    assert states == ["flow"] * 3
    assert sorted(voicemail.begun) == sorted(call.session_id for call in calls)
    assert await w.rows("SELECT DISTINCT outcome FROM queue_visit") == [("flowed_out",)]
    await w.core.stepper.apply(calls[0].session_id, ev.FlowEnded())
    await w.core.sessions.customer_hang_up(calls[1])
    await w.after(270)
    assert (await w.session(calls[2])).state == "flow"
    await w.after(31)
    assert [(await w.session(call)).end_reason for call in calls] == ["left_voicemail"] * 3
    assert await w.rows("SELECT COUNT(*) FROM deadline") == [(0,)]


async def test_what_the_installation_can_not_do_is_left_out_of_the_rules(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for way in (Exit.CALLBACK, Exit.VOICEMAIL):
            live(w, QueueLife(max_wait_s=30, exit=way))
            call = await phone_call(w)
            assert (await w.session(call)).queue.exit is Exit.QUEUE
            await w.after(30)
            assert (await w.session(call)).end_reason == "waited_too_long"


def test_a_queues_life_reads_as_before_where_it_says_nothing_new() -> None:
    old = {"max_wait_s": 30, "overflow_queue_id": "que_2"}
    assert life_to_json(life_from_json(old)) == old
    assert life_from_json({}) == LIFE
    life = QueueLife(max_wait_s=30, exit=Exit.VOICEMAIL, keep_place_s=60)
    assert life_from_json(life_to_json(life)) == life
