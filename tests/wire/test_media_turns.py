"""Prompts that are played once, as a phone hears them: whole, until a key, in a mix; and what can not be played."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from server.domain.media import (
    ApplyPlan,
    DigitPressed,
    LegUp,
    MediaPlan,
    OpenLeg,
    PromptEnd,
    PromptEnded,
    Route,
    Source,
)
from server.media.prompt_library import PromptLibrary
from server.media.text_to_speech import EspeakNg
from tests.helpers.plain_peer import PlainPeer, plain_peer
from tests.helpers.rtc_peer import Caller, Rig, running

PROMPT_HZ = 1320
PROMPT_S = 1.0
PACKETS = round(PROMPT_S / 0.02)


async def prompt_of_a_second(folder: Path) -> str:
    """A tone, in the folder that the worker looks into; its name."""
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        t = np.arange(round(PROMPT_S * 16_000)) / 16_000
        file.writeframes((6000 * np.sin(2 * np.pi * PROMPT_HZ * t)).astype(np.int16).tobytes())
    return (await PromptLibrary(folder / "prompts", EspeakNg()).add_file(folder / "tone.wav")).name


async def join(rig: Rig, caller: Caller, phone: PlainPeer, leg_id: str = "customer") -> None:
    result = await caller.order(OpenLeg(leg_id, 1, phone.offer(), plain=True))
    assert result.sdp is not None
    phone.take(result.sdp)
    await rig.listener.until_report(LegUp(leg_id, 1))


async def play(caller: Caller, *routes: Route) -> None:
    await caller.order(ApplyPlan(MediaPlan(routes)))


async def test_to_its_end_and_again_by_another_turn(tmp_path: Path) -> None:
    name = await prompt_of_a_second(tmp_path)
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.SILENCE))
        await join(rig, caller, phone)
        for turn in (1, 2):
            before = len(phone.sequences)
            await play(caller, Route("customer", name, turn))
            await play(caller, Route("customer", name, turn))  # the same plan: the prompt goes on
            await phone.wait_tone(PROMPT_HZ)
            await rig.listener.until_report(PromptEnded("customer", name, turn, PromptEnd.PLAYED))
            await play(caller, Route("customer", name, turn))  # it is over, and stays so
            heard = len(phone.sequences) - before
            assert PACKETS - 2 <= heard <= PACKETS, "once, and the last packets may be on their way"


async def test_until_a_key_is_pressed(tmp_path: Path) -> None:
    name = await prompt_of_a_second(tmp_path)
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.SILENCE))
        await join(rig, caller, phone)
        await play(caller, Route("customer", name, 1, barge_in=True))
        await phone.wait_tone(PROMPT_HZ)
        await phone.press("3")
        await rig.listener.until_report(PromptEnded("customer", name, 1, PromptEnd.KEY))
        told = [report for report in rig.listener.all() if isinstance(report, DigitPressed | PromptEnded)]
        assert isinstance(told[0], DigitPressed), "the key is known before what it ended"
        assert len(phone.sequences) < PACKETS


async def test_under_a_voice(tmp_path: Path) -> None:
    """An announcement into a talk: who is told hears both, and then the other one alone."""
    name = await prompt_of_a_second(tmp_path)
    async with running(tmp_path) as rig, plain_peer(440) as phone, plain_peer(880) as other:
        caller = rig.caller()
        await caller.bridge()
        await join(rig, caller, phone)
        await join(rig, caller, other, "agent")
        await phone.wait_tone(880)
        talk = (Route("customer", "agent"), Route("agent", "customer"))
        await play(caller, *talk, Route("customer", name, 1))
        await phone.wait_tone(PROMPT_HZ)  # louder than the voice
        await rig.listener.until_report(PromptEnded("customer", name, 1, PromptEnd.PLAYED))
        await phone.wait_tone(880)
        await other.wait_tone(440)


async def test_a_leg_that_comes_back_hears_it_from_its_start_and_to_its_own_end(tmp_path: Path) -> None:
    """Two legs hear a turn; one moves to a new anchor with another codec while the other one's ends."""
    name = await prompt_of_a_second(tmp_path)
    async with running(tmp_path) as rig, plain_peer(440) as phone, plain_peer(880) as other:
        caller = rig.caller()
        silence = (Route("customer", Source.SILENCE), Route("agent", Source.SILENCE))
        await caller.order(ApplyPlan(MediaPlan(silence)))
        await join(rig, caller, phone)
        await play(caller, Route("customer", name, 1), Route("agent", name, 1))
        await phone.wait_tone(PROMPT_HZ)
        await join(rig, caller, other, "agent")
        await rig.listener.until_report(PromptEnded("customer", name, 1, PromptEnd.PLAYED))
        await rig.listener.until_report(PromptEnded("agent", name, 1, PromptEnd.PLAYED))
        assert PACKETS - 2 <= len(other.sequences) <= PACKETS, "all of it"


async def test_what_can_not_be_played_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.SILENCE))
        await join(rig, caller, phone)
        name = "prompt:" + 32 * "0"
        await play(caller, Route("customer", name, 1))
        await rig.listener.until_report(PromptEnded("customer", name, 1, PromptEnd.UNPLAYABLE))
        await play(caller, Route("customer", name, 2), Route("customer", Source.HOLD_MUSIC))
        await rig.listener.until_report(PromptEnded("customer", name, 2, PromptEnd.UNPLAYABLE))
