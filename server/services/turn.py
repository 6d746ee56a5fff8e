"""The ICE servers of a browser, with credentials of a few minutes by coturn's REST scheme. Pure: `now` is an argument.

The scheme (draft-uberti-behave-turn-rest-00, coturn's `use-auth-secret`): the user name is "expiry:whoever", expiry in
Unix seconds; the password is base64(HMAC-SHA1(shared secret, user name)). coturn checks both by itself, so no node
has to tell it anything.

coturn looks at the expiry when an allocation is made; one that stands is refreshed with what it was made with
(tests/wire/test_turn.py holds it to that). So a call outlasts its credentials, and a new peer connection wants newer
ones: clients ask for them (`ice.servers`) once what they have is half over.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

CREDENTIALS_S = 600  # what leaks is of no use ten minutes later; a browser asks again after five


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """`secret` is coturn's static-auth-secret; without TURN addresses among `urls` it is not wanted."""

    urls: tuple[str, ...] = ()
    secret: str | None = None
    relay_only: bool = False


NO_TURN = TurnSettings()


@dataclass(frozen=True, slots=True)
class IceServer:
    """As RTCIceServer; STUN takes no credentials."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class IceAccess:
    """What one person's browser may use until `expires_at` (ms); None: it does not expire."""

    servers: tuple[IceServer, ...]
    relay_only: bool
    expires_at: int | None


def ice_access(settings: TurnSettings, person_id: str, now: int) -> IceAccess:
    """The servers for a session's customer or for a user; `now` in UTC epoch ms."""
    stun = tuple(url for url in settings.urls if not url.startswith("turn"))
    turn = tuple(url for url in settings.urls if url.startswith("turn"))
    servers = [IceServer(stun)] if stun else []
    expires_s = None
    if turn and settings.secret is not None:
        expires_s = now // 1000 + CREDENTIALS_S
        username, credential = rest_credentials(settings.secret, person_id, expires_s)
        servers.append(IceServer(turn, username, credential))
    return IceAccess(tuple(servers), settings.relay_only, None if expires_s is None else expires_s * 1000)


def rest_credentials(secret: str, person_id: str, expires_s: int) -> tuple[str, str]:
    """User name and password until `expires_s`, Unix seconds.

    Source: draft-uberti-behave-turn-rest-00, section 2.2."""
    username = f"{expires_s}:{person_id}"
    digest = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
    return username, base64.b64encode(digest).decode()
