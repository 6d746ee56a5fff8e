"""Who gets which ICE servers, until when, and with what credentials."""

from __future__ import annotations

from server.services.turn import (
    CREDENTIALS_S,
    NO_TURN,
    IceAccess,
    IceServer,
    TurnSettings,
    ice_access,
    rest_credentials,
)

NOW = 1_699_999_400_900
SECRET = "north-wind-and-the-sun"
URLS = ("turn:turn.example.com:3478", "stun:turn.example.com:3478", "turns:turn.example.com:443?transport=tcp")


def test_credentials_are_what_openssl_makes() -> None:
    """printf 1700000000:ses_1 | openssl dgst -sha1 -hmac north-wind-and-the-sun -binary | base64"""
    assert rest_credentials(SECRET, "ses_1", 1_700_000_000) == ("1700000000:ses_1", "WhKscShA4s7ltZZatS4Hy7Aqdno=")


def test_nothing_configured_gives_nothing_that_expires() -> None:
    assert ice_access(NO_TURN, "ses_1", NOW) == IceAccess((), False, None)


def test_stun_takes_no_credentials() -> None:
    settings = TurnSettings(("stun:turn.example.com:3478",))
    assert ice_access(settings, "ses_1", NOW) == IceAccess((IceServer(("stun:turn.example.com:3478",)),), False, None)


def test_turn_takes_credentials_of_ten_minutes_that_are_the_persons_own() -> None:
    access = ice_access(TurnSettings(URLS, SECRET, relay_only=True), "ses_1", NOW)
    stun, turn = access.servers
    assert stun == IceServer((URLS[1],))
    assert turn == IceServer((URLS[0], URLS[2]), *rest_credentials(SECRET, "ses_1", 1_700_000_000))
    assert access.relay_only
    assert access.expires_at == 1_700_000_000_000
    assert 0 <= access.expires_at - NOW <= CREDENTIALS_S * 1000 <= 10 * 60 * 1000
    other = ice_access(TurnSettings(URLS, SECRET), "usr_1", NOW).servers[1]
    assert (other.username, other.credential) == rest_credentials(SECRET, "usr_1", 1_700_000_000)
    assert other.credential != turn.credential
