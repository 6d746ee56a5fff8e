"""A phone's SDP, ours to a phone, and the keys in both."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.media import sdp_crypto
from server.media.sdp_plain import LocalPlain, build_offer, build_plain_answer, is_plain, our_offer, parse_plain
from server.services.ports import MediaError
from tests.unit.test_media_sdp import CHROMIUM

KEY = base64.b64encode(bytes(range(30))).decode()
PHONE = "\r\n".join(
    [
        "v=0", "o=phone 53655765 2353687637 IN IP4 192.0.2.7", "s=-", "c=IN IP4 192.0.2.7", "t=0 0",
        "m=audio 49170 RTP/AVP 9 18 8 0 101 13", "a=rtpmap:9 G722/8000", "a=rtpmap:18 G729/8000",
        "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16", "a=ptime:30", "a=maxptime:40",
        "a=sendrecv", "",
    ]
)  # fmt: skip
LOCAL = LocalPlain((7, 1), "198.51.100.1", 20000, 20001)
SECURED = PHONE.replace("RTP/AVP", "RTP/SAVP") + f"a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^20\r\n"


def code_of(text: str) -> str:
    with pytest.raises(MediaError) as caught:
        parse_plain(text)
    return caught.value.code


def test_a_phones_offer() -> None:
    media = parse_plain(PHONE)
    assert [(c.name, c.payload_type) for c in media.codecs] == [
        ("pcma", 8),
        ("pcmu", 0),
        ("g722", 9),
        ("telephone-event", 101),
        ("cn", 13),
    ], "G.711 first, in the phone's order; what we have not is left out"
    assert (media.address, media.rtcp, media.rtcp_mux) == (("192.0.2.7", 49170), ("192.0.2.7", 49171), False)
    assert (media.ptime_ms, media.maxptime_ms) == (30, 40)
    assert (media.sends, media.receives, media.secured) == (True, True, False)
    assert is_plain(PHONE)
    assert is_plain(SECURED)
    assert not is_plain(CHROMIUM)
    assert not is_plain(CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF")), "DTLS under its older name"


def test_our_answer() -> None:
    answer = build_plain_answer(parse_plain(PHONE + "m=video 5000 RTP/AVP 96\r\n"), LOCAL)
    assert "m=audio 20000 RTP/AVP 8 0 9 101 13\r\n" in answer
    assert "o=- 7 1 IN IP4 198.51.100.1\r\n" in answer
    assert "m=video 0 RTP/AVP 96\r\n" in answer
    assert "a=rtcp" not in answer, "it is on the next port"
    again = parse_plain(answer)
    assert [c.payload_type for c in again.codecs] == [8, 0, 9, 101, 13]
    assert again.rtcp == ("198.51.100.1", 20001)


@pytest.mark.parametrize(
    ("lines", "sends", "receives", "ours"),
    [
        (("a=sendonly", ""), False, True, "recvonly"),
        (("a=recvonly", ""), True, False, "sendonly"),
        (("a=inactive", ""), False, False, "inactive"),
        (("", "c=IN IP4 0.0.0.0"), False, False, "sendrecv"),
    ],
)
def test_a_hold(lines: tuple[str, str], sends: bool, receives: bool, ours: str) -> None:
    direction, connection = lines
    text = PHONE.replace("a=sendrecv\r\n", "".join(f"{line}\r\n" for line in lines if line))
    media = parse_plain(text)
    assert (media.sends, media.receives, media.direction) == (sends, receives, ours), (direction, connection)


def test_where_rtcp_goes() -> None:
    assert parse_plain(PHONE + "a=rtcp:53020\r\n").rtcp == ("192.0.2.7", 53020)
    assert parse_plain(PHONE + "a=rtcp:53020 IN IP4 192.0.2.7\r\n").rtcp == ("192.0.2.7", 53020)
    for third in ("192.0.2.9", "127.0.0.1"):
        assert parse_plain(PHONE + f"a=rtcp:53020 IN IP4 {third}\r\n", loopback=True).rtcp is None, "a third host's"
    assert parse_plain(PHONE + "a=rtcp-mux\r\n").rtcp == ("192.0.2.7", 49170)
    assert parse_plain(PHONE.replace("49170", "65535")).rtcp is None
    assert parse_plain(PHONE + "c=IN IP4 192.0.2.8\r\n").address == ("192.0.2.8", 49170)


def test_the_tag_and_the_suite_of_a_crypto() -> None:
    keyed = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4\r\n"  # an MKI
    other = f"a=crypto:2 F8_128_HMAC_SHA1_80 inline:{KEY}\r\n"
    media = parse_plain(PHONE.replace("RTP/AVP", "RTP/SAVPF") + keyed + other + SECURED.splitlines()[-1] + "\r\n")
    (crypto,) = media.cryptos
    assert (crypto.tag, crypto.suite, crypto.key) == (3, "AES_CM_128_HMAC_SHA1_32", bytes(range(30)))
    assert repr(crypto.key) not in repr(crypto), "keys are not for logs"
    strict = SECURED.replace("|2^20", " UNENCRYPTED_SRTP")
    assert code_of(strict) == "bad_sdp", "what changes the protection can't be ignored"
    assert parse_plain(SECURED.replace("|2^20", " WSH=64")).cryptos


def test_our_offer() -> None:
    text = build_offer(our_offer(("pcma", "opus"), secure=False), LOCAL)
    media = parse_plain(text)
    assert [(c.name, c.payload_type, c.clock_rate) for c in media.codecs] == [
        ("pcma", 8, 8000),
        ("opus", 111, 48000),
        ("telephone-event", 101, 8000),
        ("telephone-event", 110, 48000),
        ("cn", 13, 8000),
    ]
    assert media.rtcp_mux, "offered: whoever can't, does not answer it"
    secured = our_offer(("pcmu",), secure=True)
    assert [crypto.suite for crypto in secured.cryptos] == list(sdp_crypto.SUITES)
    local = LocalPlain((7, 1), "198.51.100.1", 20000, 20001, secured.cryptos)
    assert parse_plain(build_offer(secured, local)).cryptos == secured.cryptos
    assert [c.name for c in parse_plain(PHONE).within(media.codecs).codecs] == ["pcma", "telephone-event", "cn"]
    with pytest.raises(MediaError) as caught:
        parse_plain(PHONE.replace("9 18 8 0", "9")).within(media.codecs)
    assert caught.value.code == "no_audio"
    for codecs in ((), ("g729",)):
        with pytest.raises(MediaError) as caught:
            our_offer(codecs, secure=False)
        assert caught.value.code == "internal"


def test_a_phone_on_the_same_machine_where_the_worker_is_there_as_well() -> None:
    here = PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 127.0.0.1")
    assert parse_plain(here, loopback=True).address == ("127.0.0.1", 49170)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PHONE.replace("c=IN IP4 192.0.2.7\r\n", ""), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 phone.example"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP6 2001:db8::1"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 224.2.1.1/127"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 224.2.1.1"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 255.255.255.255"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 169.254.169.254"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 127.0.0.1"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 127.8.8.8"), "bad_sdp"),
        (PHONE.replace("c=IN IP4 192.0.2.7", "c=IN IP4 0.0.0.1"), "bad_sdp"),
        (PHONE.replace("49170", "70000"), "bad_sdp"),
        (PHONE.replace("49170", "0"), "no_audio"),
        (PHONE.replace("9 18 8 0 101 13", "18 101"), "no_audio"),
        (PHONE.replace("9 18 8 0 101 13", "0 200"), "bad_sdp"),
        (PHONE.replace("RTP/AVP", "UDP/TLS/RTP/SAVPF"), "bad_sdp"),
        (PHONE.replace("RTP/AVP", "RTP/SAVP"), "bad_sdp"),
        (PHONE + "a=rtcp:x\r\n", "bad_sdp"),
        (SECURED.replace(KEY, KEY[:-4]), "bad_sdp"),
        (SECURED.replace(KEY, "!" * 40), "bad_sdp"),
        (SECURED + "a=crypto:1\r\n", "bad_sdp"),
        (SECURED + (SECURED.splitlines()[-1] + "\r\n") * 16, "bad_sdp"),
        (PHONE + "m=video 5000 RTP/AVP 96\r\n" * 20, "sdp_too_large"),
    ],
)
def test_each_fault_has_its_code(text: str, code: str) -> None:
    assert code_of(text) == code


def check(text: str) -> None:
    code = ""
    try:
        if is_plain(text):
            build_plain_answer(parse_plain(text), LOCAL)
    except MediaError as error:
        code = error.code
    assert code in ("", "bad_sdp", "sdp_too_large", "no_audio")


@given(st.sampled_from([PHONE, SECURED]), st.lists(st.tuples(st.integers(0, 500), st.text(max_size=12)), max_size=6))
def test_a_real_offer_with_faults(text: str, faults: list[tuple[int, str]]) -> None:
    for at, put in faults:
        text = text[:at] + put + text[at + len(put) :]
    check(text)
