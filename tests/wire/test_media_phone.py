"""Phones and browsers through a real worker process: tones one way and the other, keys, holds, keys of SRTP. 440 Hz is
the phone, 880 Hz the browser, which is made to speak G.711."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import struct
from pathlib import Path

import pytest

from server.domain.media import AnswerLeg, DigitPressed, LegDown, LegQuiet, LegUp, OfferLeg, OpenLeg, SendDigits, Source
from server.media.peer import Peer
from server.services.ports import MediaError
from tests.helpers.plain_peer import EVENT, FRAME, PlainPeer, plain_peer
from tests.helpers.rtc_peer import Caller, Rig, eventually, running
from tests.helpers.system import until


@pytest.fixture(autouse=True, params=["compiled", "in Python"])
def carried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with the compiled way of packets and with its twin."""
    monkeypatch.setenv("PATCHBAY_MEDIA_COMPILED", "true" if request.param == "compiled" else "false")


def only(codec: str, sdp: str) -> str:
    """A browser's offer with G.711 alone."""
    number = {"PCMU": "0", "PCMA": "8"}[codec]
    events = [m[1] for m in re.finditer(r"a=rtpmap:(\d+) telephone-event/8000", sdp)]
    return re.sub(r"(m=audio \d+ \S+) .*", rf"\1 {' '.join([number, *events])}", sdp)


async def browser(rig: Rig, caller: Caller, codec: str = "PCMU", leg_id: str = "agent") -> Peer:
    peer = rig.peer(880)
    result = await caller.order(OpenLeg(leg_id, 1, only(codec, await peer.offer())))
    assert result.sdp is not None
    await peer.answer(result.sdp)
    return peer


async def ring_in(caller: Caller, phone: PlainPeer, leg_id: str = "customer", generation: int = 1) -> str:
    """The phone calls us; returns our answer."""
    result = await caller.order(OpenLeg(leg_id, generation, phone.offer(), plain=True))
    assert result.sdp is not None
    phone.take(result.sdp)
    return result.sdp


async def ring_out(caller: Caller, phone: PlainPeer, leg_id: str = "customer", secure: bool = False) -> str:
    """We call the phone; returns our offer."""
    result = await caller.order(OfferLeg(leg_id, 1, secure=secure))
    assert result.sdp is not None
    await caller.order(AnswerLeg(leg_id, 1, phone.answer(result.sdp)))
    return result.sdp


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
@pytest.mark.parametrize("way", ["in", "out"])
async def test_a_phone_and_a_browser_hear_each_other(tmp_path: Path, codec: str, way: str) -> None:
    async with running(tmp_path) as rig, plain_peer(440, codec) as phone:
        caller = rig.caller()
        agent = await browser(rig, caller, codec)
        await caller.bridge()
        await (ring_in if way == "in" else ring_out)(caller, phone)
        await rig.listener.until_report(LegUp("customer", 1))
        await asyncio.gather(phone.wait_tone(880), agent.wait_tone(440))
        await eventually(lambda: phone.reports[200] > 0, 6)
        assert not any(isinstance(report, LegDown | LegQuiet) for report in rig.listener.all())


@pytest.mark.parametrize("mux", [False, True])
async def test_behind_a_moved_port(tmp_path: Path, mux: bool) -> None:
    """The SDP names a port from which nothing comes: sound goes where the phone's own comes from."""
    async with running(tmp_path) as rig, plain_peer(440, moved=True, mux=mux) as phone:
        caller = rig.caller()
        agent = await browser(rig, caller)
        await caller.bridge()
        answer = await ring_in(caller, phone)
        assert ("a=rtcp-mux" in answer) is mux
        await asyncio.gather(phone.wait_tone(880), agent.wait_tone(440))
        phone.send_report()
        await eventually(lambda: phone.reports[200] > 0, 6)


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize(
    "suite", ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"]
)
async def test_keys_in_the_sdp(tmp_path: Path, suite: str, way: str) -> None:
    async with running(tmp_path) as rig, plain_peer(440, suite=suite, moved=True) as phone:
        caller = rig.caller()
        agent = await browser(rig, caller)
        await caller.bridge()
        if way == "in":
            await ring_in(caller, phone)
        else:
            assert f" {suite} inline:" in await ring_out(caller, phone, secure=True)
        await asyncio.gather(phone.wait_tone(880), agent.wait_tone(440))
        phone.send_report()
        await eventually(lambda: phone.reports[200] > 0, 6)


async def test_two_phones_and_the_music(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as one, plain_peer(880, mux=True) as other:
        caller = rig.caller()
        await caller.plan(("customer", Source.QUEUE_MUSIC))
        await ring_in(caller, one)
        await eventually(lambda: sum(one.payloads.values()) > 20 and one.heard().level_dbfs > -45, 6)
        await caller.plan(("customer", "agent"), ("agent", "customer"))
        await ring_out(caller, other, "agent")
        await asyncio.gather(one.wait_tone(880), other.wait_tone(440))


async def test_keys_of_the_phone_are_told_once_each(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.SILENCE))
        await ring_in(caller, phone)
        await rig.listener.until_report(LegUp("customer", 1))
        await phone.press("1*")
        await phone.press("17", lose_end=True)
        told = [DigitPressed("customer", 1, digit, number) for number, digit in enumerate("1*17", start=1)]
        await rig.listener.until_report(told[-1])
        assert [report for report in rig.listener.all() if isinstance(report, DigitPressed)] == told


async def test_a_flood_of_keys_is_cut_to_what_a_keypad_could_make(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.SILENCE))
        await ring_in(caller, phone)
        await rig.listener.until_report(LegUp("customer", 1))
        phone.flood("1", 500)
        await phone.press("555")

        def keys() -> str:
            return "".join(report.digit for report in rig.listener.all() if isinstance(report, DigitPressed))

        await rig.listener.until(lambda: "5" in keys())
        assert 10 <= keys().count("1") <= 60, "20, and 20 a second that the machine was slow"


async def test_keys_are_pressed_towards_a_phone(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        agent = await browser(rig, caller)
        await caller.bridge()
        await ring_in(caller, phone)
        await phone.wait_tone(880)
        await caller.order(SendDigits("customer", "12#"))
        await caller.order(SendDigits("customer", "A"))
        await eventually(lambda: phone.keys_heard() == "12#A", 5)
        await phone.wait_tone(880)
        stamps = list(dict.fromkeys(stamp for stamp, _ in phone.events))
        for stamp in stamps:
            packets = [payload for at, payload in phone.events if at == stamp]
            durations = [struct.unpack_from("!BBH", packet)[2] for packet in packets]
            assert durations == [FRAME * count for count in (1, 2, 3, 4, 5, 5, 5)]
            assert [packet[1] >> 7 for packet in packets] == [0, 0, 0, 0, 1, 1, 1], "the end is said three times"
        assert [(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)] == [8 * FRAME] * 3
        steps = [(b - a) & 0xFFFF for a, b in itertools.pairwise(phone.sequences)]
        assert set(steps) == {1}, "one stream without a gap"
        begins = [at for at, (marker, kind, _) in enumerate(phone.timestamps) if kind == EVENT and marker]
        assert len(begins) == 4
        last = max(at for at, (_, kind, _) in enumerate(phone.timestamps) if kind == EVENT)
        marker, _, after = phone.timestamps[last + 1]
        assert marker == 1
        assert 5 * FRAME <= (after - stamps[-1]) & 0xFFFFFFFF <= 60 * FRAME, "the clock went on as well"
        await agent.wait_tone(440)


async def test_keys_need_somebody_who_understands_them(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.SILENCE), ("nobody", Source.SILENCE))
        deaf = re.sub(r"a=(rtpmap|fmtp):101.*\r\n", "", phone.offer()).replace(" 101", "")
        result = await caller.order(OpenLeg("customer", 1, deaf, plain=True))
        phone.take(result.sdp or "")
        await rig.listener.until_report(LegUp("customer", 1))
        for order, code in (
            (SendDigits("customer", "1"), "no_dtmf"), (SendDigits("customer", "1x"), "bad_digits"),
            (SendDigits("nobody", "1"), "unknown_leg"), (AnswerLeg("nobody", 1, deaf), "unknown_leg"),
            (AnswerLeg("customer", 1, deaf), "stale_generation"),
        ):  # fmt: skip
            with pytest.raises(MediaError) as caught:
                await caller.order(order)
            assert caught.value.code == code


async def test_comfort_noise_is_no_speech_and_its_silence_no_alarm(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone, plain_peer(880) as other:
        caller = rig.caller()
        await caller.bridge()
        agent = await browser(rig, caller)
        await ring_in(caller, phone)
        await agent.wait_tone(440)
        phone.speaking = False
        phone.send(13, b"\x40")
        await ring_in(caller, other, "agent", 2)  # whose sound counts the time of the silence
        await eventually(lambda: other.sent > 175, 8)
        phone.speaking = True
        await other.wait_tone(440)
        assert LegUp("agent", 2) in rig.listener.all()
        assert not any(isinstance(report, LegQuiet) for report in rig.listener.all())
        phone.send(13, b"\x40")
        await eventually(lambda: other.payload_types[13] == 1, 2)  # a phone knows what it is


async def test_a_phone_that_sends_only_silence_is_told_until_it_is_heard(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(0) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.SILENCE))
        await ring_in(caller, phone)
        await rig.listener.until_report(LegQuiet("customer", 1, False, 1, silent=True))
        phone.speaking = False
        await rig.listener.until_report(LegQuiet("customer", 1, True, 2, silent=True))
        phone.speaking = True
        await rig.listener.until_report(LegQuiet("customer", 1, False, 3, silent=True))
        phone.say(440)
        await rig.listener.until_report(LegQuiet("customer", 1, False, 4))


async def test_a_phone_that_holds_us_is_there_and_is_sent_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        caller = rig.caller()
        await caller.plan(("customer", Source.QUEUE_MUSIC))
        await ring_in(caller, phone)
        await eventually(lambda: sum(phone.payloads.values()) > 10, 6)
        phone.direction = "inactive"
        answer = await ring_in(caller, phone, generation=2)
        phone.speaking = False
        assert "a=inactive" in answer
        await rig.listener.until_report(LegUp("customer", 2))
        await eventually(lambda: phone.reports[201] + phone.reports[200] > 1, 8)
        assert not any(isinstance(report, LegDown | LegQuiet) for report in rig.listener.all())
        phone.direction = "sendrecv"
        await ring_in(caller, phone, generation=3)
        before = sum(phone.payloads.values())
        await rig.listener.until_report(LegUp("customer", 3))
        await eventually(lambda: sum(phone.payloads.values()) > before + 10, 6)


async def test_plain_sdp_is_for_phones_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as phone:
        with pytest.raises(MediaError) as caught:
            await rig.caller().order(OpenLeg("customer", 1, phone.offer()))
        assert caught.value.code == "bad_sdp"


@pytest.mark.parametrize("way", ["in", "out"])
async def test_a_phone_sends_us_to_no_service_of_the_workers_own_machine(tmp_path: Path, way: str) -> None:
    """It does where worker and phone are on loopback both, as in the other tests."""
    async with running(tmp_path, "--bind", "0.0.0.0") as rig, plain_peer(440) as phone:
        with pytest.raises(MediaError) as caught:
            await (ring_in if way == "in" else ring_out)(rig.caller(), phone)
        assert caught.value.code == "bad_sdp"


async def test_a_forked_call_is_answered_elsewhere(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as first, plain_peer(660) as second:
        caller = rig.caller()
        agent = await browser(rig, caller)
        await caller.bridge()
        offer = await ring_out(caller, first)
        await asyncio.gather(first.wait_tone(880), agent.wait_tone(440))
        await caller.order(AnswerLeg("customer", 1, second.answer(offer)))
        await asyncio.gather(second.wait_tone(880), agent.wait_tone(660))


async def test_ports_of_phones_run_out_and_come_back(tmp_path: Path) -> None:
    low = 24000 + os.getpid() % 1000 * 8
    async with running(tmp_path, "--bind", "127.0.0.1", "--ports", f"{low}-{low + 3}") as rig:
        caller = rig.caller()
        for leg_id, port in (("a", low), ("b", low + 2)):
            assert f"m=audio {port} " in ((await caller.order(OfferLeg(leg_id, 1))).sdp or "")
        with pytest.raises(MediaError) as caught:
            await caller.order(OfferLeg("c", 1))
        assert caught.value.code == "no_ports"
        await rig.engine.close_leg("media-1", "s1", "a")

        async def offered() -> bool:
            try:
                return bool((await caller.order(OfferLeg("c", 1))).sdp)
            except MediaError:
                return False

        await until(offered, 5, "the ports are free again")


async def test_a_phones_keys_reach_the_other_side_as_they_came(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, plain_peer(440) as one, plain_peer(880) as other:
        caller = rig.caller()
        await caller.bridge()
        await ring_in(caller, one)
        await ring_in(caller, other, "agent")
        await other.wait_tone(440)
        await one.press("90")
        await eventually(lambda: other.keys_heard() == "90", 5)
        await rig.listener.until_report(DigitPressed("customer", 1, "0", 2))
