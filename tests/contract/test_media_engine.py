"""What every MediaEngine does: the in-memory twin, and the client with a real worker and real SDP offers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest

from server.domain.media import (
    AnswerLeg,
    ApplyPlan,
    LegDown,
    LegUp,
    MediaOrder,
    MediaPlan,
    OfferLeg,
    OpenLeg,
    PartClosed,
    RecordingOrder,
    ReleaseSession,
    Route,
    SendDigits,
    Source,
)
from server.media.memory import MemoryEngine
from server.services.ports import MediaEngine, MediaError, OrderResult, OrderStamp
from tests.helpers.rtc_peer import Listener, Rig, eventually, running

W = "media-1"
CAPACITY = 3
PHONE = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 9 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=inactive\r\n"
)
PLAN = ApplyPlan(MediaPlan((Route("a", Source.QUEUE_MUSIC), Route("b", "a"))))


class Bench(Protocol):
    """An engine, its listener, and a way to make things happen to it."""

    @property
    def engine(self) -> MediaEngine: ...

    @property
    def listener(self) -> Listener: ...

    async def offer(self) -> str: ...

    async def connect(self, leg_id: str, sdp: str) -> None:
        """The peer that made the newest offer takes the answer, and speaks."""

    async def hang_up(self, leg_id: str) -> None: ...

    async def phone_speaks(self, leg_id: str) -> None:
        """The leg of a phone is connected."""

    async def restart(self) -> None: ...

    async def drain(self) -> None: ...


@dataclass
class TwinBench:
    engine: MemoryEngine
    listener: Listener

    async def drain(self) -> None:
        await self.engine.drain(W)

    async def offer(self) -> str:
        return "v=0 an offer"

    async def connect(self, leg_id: str, sdp: str) -> None:
        await self.engine.report_up("s1", leg_id)

    async def hang_up(self, leg_id: str) -> None:
        await self.engine.report_down("s1", leg_id)

    async def phone_speaks(self, leg_id: str) -> None:
        await self.engine.report_up("s1", leg_id)

    async def restart(self) -> None:
        await self.engine.kill(W)
        await self.engine.revive(W)


class RealBench:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.engine = rig.engine
        self.listener = rig.listener

    async def drain(self) -> None:
        await self.rig.engine.drain(W)

    async def offer(self) -> str:
        return await self.rig.peer(440).offer()

    async def connect(self, leg_id: str, sdp: str) -> None:
        await self.rig.peers[-1].answer(sdp)

    async def hang_up(self, leg_id: str) -> None:
        await self.rig.peers[-1].close()

    async def phone_speaks(self, leg_id: str) -> None:
        """It holds us, and is connected all the same."""
        await self.listener.until_report(LegUp(leg_id, 1))

    async def restart(self) -> None:
        self.rig.worker.kill()
        await self.listener.until(lambda: bool(self.listener.downs))
        await self.rig.worker.start()


@pytest.fixture(params=["twin", "real"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "twin":
        engine, listener = MemoryEngine([W], capacity=CAPACITY), Listener()
        await engine.start(listener)
        yield TwinBench(engine, listener)
        await engine.stop()
        return
    async with running(tmp_path, "--bind", "127.0.0.1", "--capacity", str(CAPACITY)) as rig:
        yield RealBench(rig)


def stamp(version: int, index: int = 0, epoch: int = 1, session: str = "s1") -> OrderStamp:
    return OrderStamp("default", session, epoch, version, index)


async def give(bench: Bench, version: int, order: MediaOrder, index: int = 0, epoch: int = 1) -> OrderResult:
    return await bench.engine.order(W, stamp(version, index, epoch), order)


async def code(bench: Bench, version: int, order: MediaOrder, index: int = 0, epoch: int = 1) -> str:
    with pytest.raises(MediaError) as caught:
        await give(bench, version, order, index, epoch)
    return caught.value.code


async def test_the_worker_shows_up(bench: Bench) -> None:
    (info,) = bench.engine.workers()
    assert (info.worker_id, info.load, info.draining) == (W, 0, False)
    assert bench.listener.ups[0].incarnation == info.incarnation


async def test_a_leg_opens_with_an_answer_and_is_listed(bench: Bench) -> None:
    result = await give(bench, 1, OpenLeg("a", 1, await bench.offer()))
    assert result.sdp
    assert result.sdp.startswith("v=0")
    (leg,) = await bench.engine.list_legs(W)
    assert (leg.session_id, leg.leg_id, leg.generation, leg.epoch) == ("s1", "a", 1, 1)
    assert bench.engine.workers()[0].load == 1


async def test_a_repeated_order_gets_the_first_answer(bench: Bench) -> None:
    order = OpenLeg("a", 1, await bench.offer())
    first = await give(bench, 1, order)
    assert await give(bench, 1, order) == first
    await give(bench, 2, PLAN)
    assert await give(bench, 1, order) == first, "also when newer ones were applied"
    assert len(await bench.engine.list_legs(W)) == 1


async def test_a_repeated_failure_stays_the_same(bench: Bench) -> None:
    await give(bench, 1, OpenLeg("a", 2, await bench.offer()))
    stale = OpenLeg("a", 1, await bench.offer())
    assert await code(bench, 2, stale) == "stale_generation"
    assert await code(bench, 2, stale) == "stale_generation"


async def test_an_order_older_than_the_newest_is_refused(bench: Bench) -> None:
    await give(bench, 5, PLAN, index=1)
    assert await code(bench, 4, PLAN) == "stale_order"
    assert await code(bench, 5, PLAN, index=0) == "stale_order"
    await give(bench, 5, PLAN, index=2)


async def test_a_lower_epoch_is_refused_and_a_higher_one_starts_anew(bench: Bench) -> None:
    await give(bench, 9, OpenLeg("a", 4, await bench.offer()), epoch=1)
    await give(bench, 1, OpenLeg("b", 1, await bench.offer()), epoch=2)
    assert await code(bench, 99, PLAN, epoch=1) == "stale_epoch"
    (leg,) = await bench.engine.list_legs(W)
    assert (leg.leg_id, leg.epoch) == ("b", 2)
    await give(bench, 2, OpenLeg("a", 1, await bench.offer()), epoch=2)


async def test_a_phone_is_called_and_answers(bench: Bench) -> None:
    result = await give(bench, 1, OfferLeg("a", 1))
    assert result.sdp
    assert result.sdp.startswith("v=0")
    assert await give(bench, 1, OfferLeg("a", 1)) == result, "a repeated one gets the first offer"
    (leg,) = await bench.engine.list_legs(W)
    assert (leg.leg_id, leg.generation) == ("a", 1)
    await give(bench, 2, AnswerLeg("a", 1, PHONE))
    await give(bench, 3, AnswerLeg("a", 1, PHONE))
    assert await code(bench, 4, AnswerLeg("a", 2, PHONE)) == "stale_generation"
    assert await code(bench, 5, AnswerLeg("b", 1, PHONE)) == "unknown_leg"
    assert await code(bench, 6, OfferLeg("a", 1)) == "stale_generation"
    await give(bench, 7, OpenLeg("a", 2, PHONE, plain=True))
    assert await code(bench, 8, AnswerLeg("a", 2, PHONE)) == "stale_generation", "that one was not our offer"


async def test_keys_are_taken_or_refused(bench: Bench) -> None:
    await give(bench, 1, OpenLeg("a", 1, PHONE, plain=True))
    await bench.phone_speaks("a")
    await give(bench, 2, SendDigits("a", "0123456789*#ABCD"))
    for version, digits in enumerate(("", "12 34", "a", "１"), start=3):
        assert await code(bench, version, SendDigits("a", digits)) == "bad_digits"
    assert await code(bench, 9, SendDigits("b", "1")) == "unknown_leg"


async def test_generations_only_rise(bench: Bench) -> None:
    await give(bench, 1, OpenLeg("a", 1, await bench.offer()))
    assert await code(bench, 2, OpenLeg("a", 1, await bench.offer())) == "stale_generation"
    await give(bench, 3, OpenLeg("a", 3, await bench.offer()))
    (leg,) = await bench.engine.list_legs(W)
    assert leg.generation == 3


async def test_a_plan_closes_the_legs_that_it_does_not_name(bench: Bench) -> None:
    await give(bench, 1, OpenLeg("a", 1, await bench.offer()))
    await give(bench, 2, OpenLeg("b", 1, await bench.offer()))
    await give(bench, 3, ApplyPlan(MediaPlan((Route("a", Source.HOLD_MUSIC), Route("later", "a")))))
    assert [leg.leg_id for leg in await bench.engine.list_legs(W)] == ["a"]
    await give(bench, 4, ApplyPlan(MediaPlan((Route("x", "a"),))))
    assert [leg.leg_id for leg in await bench.engine.list_legs(W)] == ["a"], "heard is named as well"


async def test_a_released_session_stays_released(bench: Bench) -> None:
    await give(bench, 1, OpenLeg("a", 1, await bench.offer()))
    await give(bench, 2, ReleaseSession())
    assert list(await bench.engine.list_legs(W)) == []
    await give(bench, 2, ReleaseSession())
    await give(bench, 3, ReleaseSession())
    assert await code(bench, 1, PLAN, index=7) == "stale_order"
    assert await code(bench, 4, PLAN) == "unknown_session"
    assert await code(bench, 9, PLAN, epoch=0) == "stale_epoch"
    await give(bench, 1, PLAN, epoch=2)


async def test_releasing_an_unknown_session_is_fine(bench: Bench) -> None:
    await give(bench, 1, ReleaseSession())


async def test_close_leg_may_be_repeated(bench: Bench) -> None:
    await give(bench, 1, OpenLeg("a", 1, await bench.offer()))
    for _ in range(2):
        await bench.engine.close_leg(W, "s1", "a")
    await bench.engine.close_leg(W, "nobody", "a")
    assert list(await bench.engine.list_legs(W)) == []


async def test_up_and_down_are_reported_with_the_epoch(bench: Bench) -> None:
    await give(bench, 1, PLAN, epoch=3)
    result = await give(bench, 2, OpenLeg("a", 1, await bench.offer()), epoch=3)
    assert result.sdp is not None
    await bench.connect("a", result.sdp)
    await bench.listener.until_report(LegUp("a", 1))
    await bench.hang_up("a")
    await bench.listener.until_report(LegDown("a", 1, "dtls_closed"))
    assert {epoch for _, epoch, _ in bench.listener.reports} == {3}


async def test_a_recordings_end_is_reported(bench: Bench) -> None:
    order = RecordingOrder("rec", 1, "a", "b")
    recording = ApplyPlan(MediaPlan(PLAN.plan.routes, order))
    await give(bench, 1, recording)
    await give(bench, 2, ApplyPlan(replace(recording.plan, recording=replace(order, paused=True))))
    await give(bench, 3, PLAN)
    await bench.listener.until_report(PartClosed("rec", 1))
    assert bench.listener.all() == [PartClosed("rec", 1)]
    await give(bench, 4, ApplyPlan(MediaPlan(PLAN.plan.routes, replace(order, recording_id="other"))))
    await give(bench, 5, ReleaseSession())
    await bench.listener.until_report(PartClosed("other", 1))


async def test_a_worker_that_died_knows_nothing(bench: Bench) -> None:
    before = bench.engine.workers()[0].incarnation
    await give(bench, 5, OpenLeg("a", 1, await bench.offer()))
    await bench.restart()
    await bench.listener.until(lambda: len(bench.listener.ups) == 2)
    assert bench.listener.downs == [(W, before)]
    assert bench.listener.ups[1].incarnation != before
    assert list(await bench.engine.list_legs(W)) == []
    await give(bench, 1, PLAN, epoch=2)


async def test_connected_names_full_and_draining_workers_too(bench: Bench) -> None:
    for version in range(1, CAPACITY + 1):
        await give(bench, version, OpenLeg(f"leg{version}", 1, await bench.offer()))
    assert bench.engine.workers() == [], "full: no new session"
    assert [(info.worker_id, info.load) for info in bench.engine.connected()] == [(W, CAPACITY)]
    await give(bench, CAPACITY + 1, ReleaseSession())
    await bench.drain()
    await eventually(lambda: bench.engine.connected()[0].draining)
    assert bench.engine.workers() == []
    assert [info.worker_id for info in bench.engine.connected()] == [W]


async def test_connected_is_true_before_the_start_and_after_the_end(bench: Bench) -> None:
    await bench.engine.stop()
    assert bench.engine.connected() == []
    ups = len(bench.listener.ups)
    await bench.engine.start(bench.listener)
    await bench.listener.until(lambda: len(bench.listener.ups) > ups)
    assert [info.worker_id for info in bench.engine.connected()] == [W]


async def test_an_unknown_worker(bench: Bench) -> None:
    with pytest.raises(MediaError) as caught:
        await bench.engine.order("nobody", stamp(1), PLAN)
    assert caught.value.code == "worker_gone"
