"""The SDP check: good offers pass, bad ones get a code, and nothing else ever comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.media.sdp import MAX_MEDIA, Fingerprint, LocalMedia, build_answer, parse_offer
from server.services.ports import MediaError

PRINT = ":".join(["AB"] * 32)
CHROMIUM = "\r\n".join(
    [
        "v=0", "o=- 4931598432129710249 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1",
        "a=extmap-allow-mixed", "a=msid-semantic: WMS",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0",
        "a=candidate:1 1 udp 2113937151 5b2f.local 51000 typ host generation 0",
        "a=candidate:2 1 udp 2113937151 192.0.2.7 51001 typ host generation 0",
        "a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        "a=ice-ufrag:tHd2", "a=ice-pwd:T0litspp6UVgvJm6wS7ovZew", "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {PRINT}", "a=setup:actpass", "a=mid:0",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=sendrecv", "a=rtcp-mux", "a=rtpmap:111 opus/48000/2", "a=rtcp-fb:111 transport-cc",
        "a=fmtp:111 minptime=10;useinbandfec=1", "a=rtpmap:63 red/48000/2", "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=rtpmap:13 CN/8000",
        "a=rtpmap:110 telephone-event/48000", "a=rtpmap:126 telephone-event/8000",
        "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:1", "a=rtpmap:96 VP8/90000", "",
    ]
)  # fmt: skip
LOCAL = LocalMedia("ufra", "p" * 22, Fingerprint("sha-256", PRINT), [("192.0.2.1", 20000)], 1234)


def without(attribute: str) -> str:
    return "\r\n".join(line for line in CHROMIUM.split("\r\n") if not line.startswith(attribute))


def code_of(text: str) -> str:
    with pytest.raises(MediaError) as caught:
        parse_offer(text)
    return caught.value.code


def test_a_browsers_offer() -> None:
    offer = parse_offer(CHROMIUM)
    assert [(c.name, c.payload_type) for c in offer.codecs] == [
        ("opus", 111),
        ("pcmu", 0),
        ("pcma", 8),
        ("telephone-event", 110),
        ("telephone-event", 126),
    ]
    assert offer.audio_level_id == 1
    assert offer.dtls_role == "active"
    assert [c.host for c in offer.candidates] == ["192.0.2.7"], "mDNS and TCP candidates are left out"


def test_the_answer_puts_opus_first_and_refuses_video() -> None:
    answer = build_answer(parse_offer(CHROMIUM), LOCAL)
    assert "m=audio 20000 UDP/TLS/RTP/SAVPF 111 0 8" in answer
    assert "m=video 0 UDP/TLS/RTP/SAVPF 96" in answer
    assert "a=group:BUNDLE 0\r\n" in answer
    assert "a=candidate:1 1 udp 2130706431 192.0.2.1 20000 typ host" in answer
    assert "a=setup:active" in answer


def test_an_offer_needs_no_candidate() -> None:
    assert parse_offer(without("a=candidate")).candidates == ()


@pytest.mark.parametrize("missing", ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=setup", "a=rtcp-mux", "v="])
def test_what_must_be_there(missing: str) -> None:
    assert code_of(without(missing)) == "bad_sdp"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_sdp"),
        (CHROMIUM.replace("s=-", "s=\0"), "bad_sdp"),
        (CHROMIUM.replace("sha-256", "sha-1"), "bad_sdp"),
        (CHROMIUM.replace("m=audio 9 UDP/TLS/RTP/SAVPF", "m=audio 9 RTP/AVP"), "bad_sdp"),
        (CHROMIUM.replace("111 63", "64 63"), "bad_sdp"),
        (CHROMIUM.replace("typ host", "type host"), "bad_sdp"),
        (without("m=audio"), "no_audio"),
        (CHROMIUM.replace("m=audio 9 ", "m=audio 0 "), "no_audio"),
        (CHROMIUM.replace("111 63 9 0 8 13 110 126", "63 9"), "no_audio"),
        (CHROMIUM + "a=x:" + "y" * 70_000 + "\r\n", "sdp_too_large"),
        (CHROMIUM + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * MAX_MEDIA, "sdp_too_large"),
        (CHROMIUM + "a=candidate:2 1 udp 1 192.0.2.7 51001 typ host\r\n" * 101, "sdp_too_large"),
    ],
)
def test_each_fault_has_its_code(text: str, code: str) -> None:
    assert code_of(text) == code


def check(text: str) -> None:
    """There is an answer or one of three codes, and nothing else."""
    code = ""
    try:
        build_answer(parse_offer(text), LOCAL)
    except MediaError as error:
        code = error.code
    assert code in ("", "bad_sdp", "sdp_too_large", "no_audio")


@given(st.text(max_size=400))
def test_any_text(text: str) -> None:
    check(text)
    check("v=0\n" + text)


LINES = CHROMIUM.split("\r\n")


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(LINES) - 1),
            st.integers(0, 60),
            st.sampled_from(["drop", "double", "cut"]) | st.text(max_size=12),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_real_offer_with_faults(faults: list[tuple[int, int, str]]) -> None:
    lines = list(LINES)
    for index, at, how in faults:
        line = lines[index]
        if how == "drop":
            lines[index] = ""
        elif how == "double":
            lines[index] = f"{line}\r\n{line}"
        elif how == "cut":
            lines[index] = line[:at]
        else:
            lines[index] = line[:at] + how + line[at + len(how) :]
    check("\r\n".join(lines))
