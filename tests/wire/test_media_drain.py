"""A media worker that is told to stop lets its calls move to another one: nobody is hung up on, and nobody hears a
gap worth the name. Whole processes: a control node, workers as on other machines, two people with real media."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.customer import Customer
from tests.helpers.ear import Ear
from tests.helpers.machines import DRAIN_S, machines
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, System, until

GAP_S = 0.3  # a frame or two, and what a busy machine adds
LENGTH_TOLERANCE_MS = 200  # what the product promises of a recording


@dataclass
class Talk:
    customer: Customer
    agent: ScriptedAgent
    ears: tuple[Ear, Ear]

    async def both_hear(self) -> None:
        assert self.customer.peer is not None
        assert self.agent.peer is not None
        await asyncio.gather(self.customer.peer.wait_tone(880), self.agent.peer.wait_tone(440))

    def gaps_ms(self) -> list[int]:
        return [round(ear.gap_s * 1000) for ear in self.ears]


@asynccontextmanager
async def talking(patchbay: System) -> AsyncIterator[Talk]:
    ears = Ear(880), Ear(440)
    async with ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True, on_frame=ears[1]) as agent:
        await agent.set_state("ready")
        customer = Customer(patchbay, on_frame=ears[0])
        await customer.begin()
        await agent.contact("talking")
        talk = Talk(customer, agent, ears)
        await talk.both_hear()
        for ear in ears:
            ear.listen()
        yield talk
        await customer.close()


async def archived(patchbay: System, session_id: str, timeout_s: float = 40) -> tuple[Any, ...]:
    """(state, reason, parts, duration_ms, length of the talk in ms) of the call's recording."""

    async def done() -> Any:
        (row,) = patchbay.rows(
            "SELECT r.state, r.reason, r.parts, r.duration_ms, s.talk_ended_at - s.talk_started_at FROM recording r"
            " JOIN segment s ON s.id = r.segment_id WHERE r.session_id = ?",
            session_id,
        )
        return row if row[0] in ("ready", "failed") else None

    row: tuple[Any, ...] = await until(done, timeout_s, "the archive")
    return row


async def test_a_drained_worker_moves_its_call_and_goes(tmp_path: Path) -> None:
    async with machines(tmp_path) as m, talking(m.patchbay) as talk:
        session_id = talk.customer.session_id
        first = await m.holder(session_id)
        assert first.process is not None
        began = time.monotonic()
        first.process.terminate()
        await asyncio.wait_for(first.process.wait(), DRAIN_S)
        left_s = time.monotonic() - began
        await m.moved(session_id, 2)
        second = await m.holder(session_id)
        assert second is not first
        await talk.both_hear()
        print(f"worker gone after {left_s:.1f} s; gaps {talk.gaps_ms()} ms")
        assert first.process.returncode == 0
        assert left_s < 8, "it waits for its calls, not for the end of its time"
        assert max(talk.gaps_ms()) < GAP_S * 1000
        assert talk.customer.view["agent_reconnecting"] is False
        (part, _) = m.patchbay.session(session_id)["recordings"][0]["parts"]
        assert (part["closed"], part["cut"]) == (True, False), "its tail is kept"
        await talk.agent.hold(True)  # the ear is no deaf one: now it hears a gap
        await until(lambda: _is_over(GAP_S, talk.ears[0]), 5, "a gap in what the customer hears")
        await talk.agent.hold(False)
        await first.start()  # its parts are fetched from it
        await talk.customer.hang_up()
        state, reason, parts, duration_ms, talk_ms = await archived(m.patchbay, session_id)
        assert (state, reason, parts) == ("ready", None, 2)
        print(f"recorded {duration_ms} ms of {talk_ms} ms")
        assert abs(duration_ms - talk_ms) < LENGTH_TOLERANCE_MS
        for worker in m.workers.values():
            await until(lambda worker=worker: _none(worker.spool), 10, "no part is left")  # type: ignore[misc]
        assert await _none(m.patchbay.data_dir / "spool")


async def _is_over(seconds: float, ear: Ear) -> bool:
    return ear.gap_s > seconds


async def _none(spool: Path) -> bool:
    return not list(spool.glob("**/*.cap"))


async def test_a_killed_workers_call_goes_on_and_its_part_is_awaited(tmp_path: Path) -> None:
    async with machines(tmp_path) as m, talking(m.patchbay) as talk:
        session_id = talk.customer.session_id
        first = await m.holder(session_id)
        first.kill()
        await m.moved(session_id, 2)
        await talk.both_hear()
        print(f"gaps {talk.gaps_ms()} ms")
        assert max(talk.gaps_ms()) < 3000
        await talk.customer.hang_up()
        (part, *_) = m.patchbay.session(session_id)["recordings"][0]["parts"]
        assert (part["closed"], part["cut"]) == (True, True)

        async def waits() -> bool:
            return "archive_waits" in m.patchbay.log.read_text()

        await until(waits, 10, "the archive waits for the machine that is away")
        await first.start()
        state, reason, parts, duration_ms, talk_ms = await archived(m.patchbay, session_id)
        assert (state, reason, parts) == ("ready", None, 2)
        print(f"recorded {duration_ms} ms of {talk_ms} ms")
        assert abs(duration_ms - talk_ms) < LENGTH_TOLERANCE_MS + 1000, (
            "the last second of the killed one is not written"
        )


async def test_many_calls_leave_at_once(tmp_path: Path) -> None:
    """Waiting customers: no agents are needed, and music shows that they are heard to."""
    async with machines(tmp_path) as m:
        customers = [Customer(m.patchbay, tone_hz=440) for _ in range(8)]
        for customer in customers:
            await customer.begin()
            assert customer.peer is not None
            await customer.peer.wait_for(lambda heard: heard.level_dbfs > -45)
        first = m.workers["media-a1"]
        held = [c for c in customers if m.patchbay.session(c.session_id)["worker_id"] == "media-a1"]
        assert held
        assert first.process is not None
        began = time.monotonic()
        first.process.terminate()
        await asyncio.wait_for(first.process.wait(), DRAIN_S)
        print(f"{len(held)} customers left within {time.monotonic() - began:.1f} s")
        for customer in customers:
            assert customer.peer is not None
            customer.peer.forget()
            await customer.peer.wait_for(lambda heard: heard.level_dbfs > -45)
            assert not customer.ended.is_set()
            await customer.close()
