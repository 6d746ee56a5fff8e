"""Calls through a real worker process: aiortc peers, driven by the client. 440 Hz is the customer, 880 Hz
the agent; the music avoids both."""

from __future__ import annotations

import time
import wave
from pathlib import Path

import numpy as np

from server.domain.media import LegDown, LegQuiet, LegUp, OpenLeg, Source
from server.media.peer import Heard, Peer
from tests.helpers.rtc_peer import running


def is_music(heard: Heard) -> bool:
    """Loud enough, and neither peer's tone."""
    return heard.level_dbfs > -45 and all(abs(heard.peak_hz - tone) > 15 for tone in (0, 440, 880))


async def test_two_peers_hear_each_other(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        _, customer, agent = await rig.call()
        await customer.wait_tone(880)
        heard = await agent.wait_tone(440)
        assert heard.level_dbfs > -26
        await rig.listener.until(
            lambda: any(t.level_dbov > -30 and t.packets_in and t.packets_out for t in rig.listener.telemetry)
        )
        await rig.listener.until(  # by the peers' own reports of what they hear
            lambda: (
                {t.leg_id for t in rig.listener.telemetry if t.rtt_ms is not None and t.loss_out is not None}
                == {"customer", "agent"}
            )
        )
        last = {t.leg_id: t for t in rig.listener.telemetry}
        assert {t.codec for t in last.values()} == {"opus"}
        assert all(t.rtt_ms is not None and t.rtt_ms < 5_000 for t in last.values()), (
            "some milliseconds, and a busy machine"
        )
        assert not any(isinstance(report, (LegDown, LegQuiet)) for report in rig.listener.all())


async def test_music_hold_and_comfort(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller, customer, agent = rig.caller(), rig.peer(440), rig.peer(880)
        await caller.plan(("customer", Source.QUEUE_MUSIC))  # the plan may come before the leg
        await caller.open("customer", customer)
        await customer.wait_for(is_music)
        await caller.plan(("customer", "agent"), ("agent", "customer"))
        customer.forget()
        await customer.wait_for(lambda h: is_music(h) and h.level_dbfs < -30)  # comfort: the agent is not there
        await caller.open("agent", agent)
        await customer.wait_tone(880)
        await agent.wait_tone(440)
        await caller.plan(("customer", Source.HOLD_MUSIC), ("agent", Source.SILENCE))
        customer.forget()
        await customer.wait_for(is_music)
        await caller.bridge()
        await customer.wait_tone(880)
        await agent.close()
        await rig.listener.until_report(LegDown("agent", 1, "dtls_closed"), timeout_s=2)
        customer.forget()
        await customer.wait_for(is_music)
        again = rig.peer(880)
        await caller.open("agent", again, generation=2)
        await rig.listener.until_report(LegUp("agent", 2))
        await customer.wait_tone(880)
        await again.wait_tone(440)


async def test_ten_re_anchors(tmp_path: Path) -> None:
    """The newer peer connection takes over, the older is closed, nobody is told of a loss."""
    async with running(tmp_path) as rig:
        caller, customer, agent = await rig.call()
        for generation in range(2, 12):
            newer = rig.peer(440)
            await caller.open("customer", newer, generation)
            await rig.listener.until_report(LegUp("customer", generation))
            await newer.wait_tone(880)
            await agent.wait_tone(440)
            await customer.close()
            customer = newer
        assert not any(isinstance(report, LegDown) for report in rig.listener.all())
        (leg,) = [leg for leg in await rig.engine.list_legs("media-1") if leg.leg_id == "customer"]
        assert leg.generation == 11


async def test_a_set_up_is_quick(tmp_path: Path) -> None:
    """From the answer to LegUp, without any candidate in the offer. The bound is wide for a busy machine."""
    async with running(tmp_path) as rig:
        caller, spent = rig.caller(), []
        await caller.plan(("a", "b"))
        for generation in range(1, 6):
            peer = rig.peer(440)
            began = time.monotonic()
            await caller.open("a", peer, generation)
            answered = time.monotonic()
            await rig.listener.until_report(LegUp("a", generation))
            spent.append((round(answered - began, 3), round(time.monotonic() - answered, 3)))
        print("answer, then up (s):", spent)
        assert sorted(up for _, up in spent)[2] < 0.6


async def test_nobody_follows_the_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        began = time.monotonic()
        await rig.caller().order(OpenLeg("customer", 1, await rig.peer().offer()))
        await rig.listener.until_report(LegDown("customer", 1, "setup_timeout"), timeout_s=13)
        assert time.monotonic() - began > 9.5
        (leg,) = await rig.engine.list_legs("media-1")
        assert leg.generation == 1, "remembered, so that an older one can't come back"


async def test_a_caller_who_plays_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        t = np.arange(8000) / 8000
        file.writeframes((6000 * np.sin(2 * np.pi * 700 * t)).astype(np.int16).tobytes())
    async with running(tmp_path) as rig:
        caller, customer, agent = rig.caller(), Peer(audio=path), rig.peer(880)
        rig.peers.append(customer)
        await caller.bridge()
        await caller.open("customer", customer)
        await caller.open("agent", agent)
        await agent.wait_tone(700)


async def test_a_silent_tab_is_quiet_then_lost(tmp_path: Path) -> None:
    """A crashed tab says nothing: its sockets just fall silent."""
    async with running(tmp_path) as rig:
        _, customer, _ = await rig.call()
        began = time.monotonic()
        customer.crash()
        await rig.listener.until_report(LegDown("customer", 1, "ice_lost"), timeout_s=8)
        assert time.monotonic() - began < 6.5
        assert LegQuiet("customer", 1, True, 1) in rig.listener.all()
