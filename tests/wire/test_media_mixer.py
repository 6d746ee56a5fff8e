"""Several voices at once through a real worker and its mixer: who hears whom, told by the tones that each one says."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import uvloop

from server.domain.media import LegUp, OpenLeg, Source
from server.media.peer import RATE
from server.media.prompt_library import PromptLibrary
from server.media.relay import mixer as mixers
from server.media.relay.mixer import Mixer
from server.media.text_to_speech import EspeakNg
from tests.helpers.rtc_peer import Caller, Rig, eventually, running
from tests.helpers.tones import JUDGED, Ears, levels, lost_ms, only, write_sweep

TONES = {"customer": 440.0, "agent": 880.0, "boss": 1320.0}
PITCHES = tuple(TONES.values())
LOSS_ALLOWED_MS = 200.0
KEPT_S = 2.0
JUDGED_S = JUDGED / RATE


class Party:
    """Legs of one session; each says its tone."""

    def __init__(self, rig: Rig, caller: Caller) -> None:
        self.rig = rig
        self.caller = caller
        self.ears: dict[str, Ears] = {}

    async def join(self, leg_id: str, ears: Ears | None = None, codec: str | None = None) -> None:
        ears = self.ears[leg_id] = ears or Ears(TONES[leg_id])
        self.rig.peers.append(ears.peer)
        offer = await ears.peer.offer()
        result = await self.caller.order(OpenLeg(leg_id, 1, only(codec, offer) if codec is not None else offer))
        assert result.sdp is not None
        await ears.peer.answer(result.sdp)

    async def plan(self, **hears: str) -> None:
        """`agent="customer boss"`: the agent hears those two."""
        await self.caller.plan(*((leg, name) for leg, names in hears.items() for name in names.split()))

    async def hear(self, **hears: str) -> None:
        """Each hears exactly these."""
        for leg, names in hears.items():
            await self.ears[leg].until({TONES[name] for name in names.split()}, PITCHES)


@asynccontextmanager
async def party(folder: Path, *legs: str) -> AsyncIterator[Party]:
    async with running(folder) as rig:
        found = Party(rig, rig.caller())
        await found.plan(**dict.fromkeys(legs, Source.SILENCE.value))
        for leg in legs:
            await found.join(leg)
        for leg in legs:
            await rig.listener.until_report(LegUp(leg, 1))
        yield found


def mixer_pid(rig: Rig) -> int | None:
    """The worker's child that mixes."""
    assert rig.worker.process is not None
    pid = rig.worker.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if b"server.media.mixer" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


async def test_a_conference_of_three_and_supervision(tmp_path: Path) -> None:
    """Talk, listen, coach, barge, conference, and back to the plain relay: nobody ever hears himself."""
    async with party(tmp_path, "customer", "agent", "boss") as p:
        talk = {"customer": "agent", "agent": "customer"}
        await p.plan(**talk, boss="silence")
        await p.hear(**talk, boss="")
        for hears in (
            {"customer": "agent", "agent": "customer", "boss": "customer agent"},  # listens
            {"customer": "agent", "agent": "customer boss", "boss": "customer agent"},  # coaches
            {"customer": "agent boss", "agent": "customer boss", "boss": "customer agent"},  # barges in
        ):
            await p.plan(**hears)
            await p.hear(**hears)
        await p.plan(customer="boss", boss="customer", agent="silence")
        await p.hear(customer="boss", boss="customer")


async def test_music_under_a_voice(tmp_path: Path) -> None:
    """A prompt may be one of several routes."""
    async with party(tmp_path, "customer", "agent") as p:
        await p.plan(customer=f"agent {Source.QUEUE_MUSIC}", agent="customer")
        await p.hear(customer="agent", agent="customer")
        customer = p.ears["customer"]
        customer.heard.clear()
        # its notes: 262 to 622 Hz
        await customer.until_true(lambda: len(customer.tones([261.63, 311.13, 349.23, 392.0, 466.16, 523.25])) >= 2)


async def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    """Alone, and under a voice; it lies beside the worker's spool."""
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        t = np.arange(16_000) / 16_000
        file.writeframes((6000 * np.sin(2 * np.pi * 1320 * t)).astype(np.int16).tobytes())
    prompt = await PromptLibrary(tmp_path / "prompts", EspeakNg()).add_file(tmp_path / "tone.wav")
    async with party(tmp_path, "customer", "agent") as p:
        await p.plan(customer=prompt.name, agent="customer")
        await p.hear(customer="boss", agent="customer")  # the boss's tone
        await p.plan(customer=f"agent {prompt.name}", agent="customer")
        await p.hear(customer="agent boss", agent="customer")


async def test_an_opus_leg_and_one_that_speaks_only_pcmu(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        p = Party(rig, rig.caller())
        await p.plan(customer="agent", agent="customer")
        await p.join("customer", codec="PCMU/8000")
        await p.join("agent", codec="opus/48000")
        await p.hear(customer="agent", agent="customer")


async def test_a_browser_that_could_say_pcmu_and_says_opus(tmp_path: Path) -> None:
    """Negotiated codecs meet, what is said does not: it is heard all the same."""
    async with running(tmp_path) as rig:
        p = Party(rig, rig.caller())
        await p.plan(customer="agent", agent="customer")
        await p.join("customer", codec="PCMU/8000")
        await p.join("agent")
        await p.hear(customer="agent", agent="customer")


async def test_a_call_moves_to_the_mixer_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent says a rising tone; what the customer misses at each change shows in it."""
    write_sweep(tmp_path / "sweep.wav")
    async with running(tmp_path) as rig:
        p = Party(rig, rig.caller())
        await p.plan(customer="agent", agent="customer", boss="silence")
        await p.join("agent", Ears(audio=tmp_path / "sweep.wav"))
        await p.join("customer", Ears(440, kept_s=KEPT_S))
        await p.join("boss", Ears(0))
        for leg in ("customer", "agent", "boss"):
            await rig.listener.until_report(LegUp(leg, 1))
        customer = p.ears["customer"]
        spoilt: dict[str, list[tuple[float, float]]] = {"mixed": [], "relayed": []}
        for way in ["mixed", "relayed"] * 3:
            customer.heard.clear()
            await customer.listen(0.7)
            await p.plan(customer="agent boss" if way == "mixed" else "agent", agent="customer", boss="agent")
            await customer.listen(KEPT_S)
            spoilt[way].append(lost_ms(customer.heard))
        with capsys.disabled():
            print("silent, never heard (ms):", spoilt)
        for times in spoilt.values():  # the best: a busy machine holds the test's own peers up, which shows as jitter
            silent, missed = (min(kind) for kind in zip(*times, strict=True))
            assert silent <= LOSS_ALLOWED_MS
            assert missed <= LOSS_ALLOWED_MS


async def test_the_mixer_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Relayed calls go on untouched; mixed ones are heard again when the next mixer is there."""
    async with party(tmp_path, "customer", "agent", "boss") as p:
        hears = {"customer": "agent boss", "agent": "customer boss", "boss": "customer agent"}
        await p.plan(**hears)
        await p.hear(**hears)
        other = Party(p.rig, p.rig.caller("s2"))
        await other.plan(customer="agent", agent="customer")
        await other.join("customer", Ears(440, kept_s=KEPT_S))
        await other.join("agent")
        await other.hear(customer="agent", agent="customer")
        first = mixer_pid(p.rig)
        assert first is not None
        began = asyncio.get_running_loop().time()
        os.kill(first, signal.SIGKILL)
        relayed = other.ears["customer"]
        for ears in (*p.ears.values(), relayed):
            ears.heard.clear()
        await eventually(lambda: mixer_pid(p.rig) not in (None, first))
        await p.hear(**hears)
        spent = asyncio.get_running_loop().time() - began
        with capsys.disabled():
            print(f"the mixer was killed; {spent - JUDGED_S:.2f} s later all heard each other again")
        assert spent < 6, "wide, for a busy machine"
        await relayed.listen(min(spent, KEPT_S))
        assert min(levels(relayed.heard)) > 0.05, "no 50 ms of the relayed call are missing"
        assert relayed.tones(PITCHES) == {880.0}


async def test_a_mixer_that_hangs_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with party(tmp_path, "customer", "agent", "boss") as p:
        hears = {"customer": "agent boss", "agent": "customer boss", "boss": "customer agent"}
        await p.plan(**hears)
        await p.hear(**hears)
        first = mixer_pid(p.rig)
        assert first is not None
        began = asyncio.get_running_loop().time()
        os.kill(first, signal.SIGSTOP)
        await eventually(lambda: mixer_pid(p.rig) not in (None, first))
        for ears in p.ears.values():
            ears.heard.clear()
        await p.hear(**hears)
        with capsys.disabled():
            spent = asyncio.get_running_loop().time() - began
            print(f"the mixer was stopped; {spent - JUDGED_S:.2f} s later all heard each other again")
        assert not Path(f"/proc/{first}").exists()


async def test_a_plan_is_answered_when_the_mixer_obeys_it(tmp_path: Path) -> None:
    async with party(tmp_path, "customer", "agent", "boss") as p:
        hears = {"customer": "agent boss", "agent": "customer boss", "boss": "customer agent"}
        await p.plan(**hears)
        await p.hear(**hears)
        pid = mixer_pid(p.rig)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        hears = {
            "customer": "agent",
            "agent": "customer boss",
            "boss": "customer agent",
        }  # no longer barged
        order = asyncio.create_task(p.plan(**hears))
        await p.rig.caller("s2").plan(("customer", "agent"))
        assert len(await p.rig.engine.list_legs("media-1")) == 3
        assert not order.done(), "of what was asked later, and needs no mixer, the answer came before"
        os.kill(pid, signal.SIGCONT)
        await order
        await p.hear(**hears)


def test_looking_after_the_mixer_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the loop that workers run on: uvloop's transport of a process keeps each wait that was given up."""
    looks = itertools.count()
    looked = 0

    def look(mixer: Mixer, process: asyncio.subprocess.Process) -> None:
        nonlocal looked
        looked = next(looks)

    def given_up() -> int:
        return sum(isinstance(one, asyncio.Future) and one.cancelled() for one in gc.get_objects())

    async def watch() -> None:
        running = asyncio.create_task(Mixer().run())
        await eventually(lambda: looked > 5)
        before = given_up()
        await eventually(lambda: looked > 105)
        assert given_up() - before < 10
        running.cancel()
        await asyncio.wait({running})

    monkeypatch.setattr(mixers, "LOOK_S", 0.001)
    monkeypatch.setattr(Mixer, "_look", look)
    uvloop.run(watch())


async def test_the_mixer_dies_with_its_worker(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await eventually(lambda: mixer_pid(rig) is not None)
        pid = mixer_pid(rig)
        rig.worker.kill()
        await eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


async def test_a_mixer_that_is_told_to_end_with_the_whole_service_waits_for_its_worker(tmp_path: Path) -> None:
    async with party(tmp_path, "customer", "agent", "boss") as p:
        hears = {"customer": "agent boss", "agent": "customer boss", "boss": "customer agent"}
        await p.plan(**hears)
        await p.hear(**hears)
        pid = mixer_pid(p.rig)
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        for ears in p.ears.values():
            ears.heard.clear()
        await p.hear(**hears)
        assert mixer_pid(p.rig) == pid
