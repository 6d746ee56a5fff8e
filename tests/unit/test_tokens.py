"""Customer tokens: what is accepted, and how the key comes to be."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.clock import ManualClock
from server.services.tokens import RETURN_DAYS, TOKEN_HOURS, CustomerTokens, TokenError, load_or_create_key

KEY = b"k" * 32


def test_a_token_says_what_was_issued() -> None:
    tokens = CustomerTokens(KEY, ManualClock())
    text, issued = tokens.issue("default", "ses_1", "ept_1")
    assert tokens.read(text) == issued
    assert text.isascii()


def test_a_token_expires() -> None:
    clock = ManualClock()
    tokens = CustomerTokens(KEY, clock)
    text, _issued = tokens.issue("default", "ses_1", "ept_1")
    clock.advance(TOKEN_HOURS * 3600 - 1)
    tokens.read(text)
    clock.advance(1)
    with pytest.raises(TokenError, match="token_expired"):
        tokens.read(text)


def test_a_returning_browser_is_known_for_a_week_and_let_into_nothing() -> None:
    clock = ManualClock()
    tokens = CustomerTokens(KEY, clock)
    text = tokens.issue_return("default", "ses_1")
    with pytest.raises(TokenError, match="token_invalid"):
        tokens.read(text)
    assert tokens.read_return(tokens.issue("default", "ses_1", "ept_1")[0], "default") is None
    assert tokens.read_return(text, "other") is None
    assert CustomerTokens(b"x" * 32, clock).read_return(text, "default") is None
    for nothing in (None, "", "r1", "r1.x.y", text[:-2], text.replace("r1.", "c1.")):
        assert tokens.read_return(nothing, "default") is None
    clock.advance(RETURN_DAYS * 86_400 - 1)
    assert tokens.read_return(text, "default") == "ses_1"
    clock.advance(1)
    assert tokens.read_return(text, "default") is None


def test_another_key_does_not_open() -> None:
    text, _issued = CustomerTokens(b"x" * 32, ManualClock()).issue("default", "ses_1", "ept_1")
    with pytest.raises(TokenError, match="token_invalid"):
        CustomerTokens(KEY, ManualClock()).read(text)


@pytest.mark.parametrize("junk", [None, 1, {}, "", "..", "c1.x.y", "c1..", "a.b.c.d", "é.é.é", f"c1.{'A' * 5000}.x"])
def test_junk_is_invalid(junk: object) -> None:
    with pytest.raises(TokenError, match="token_invalid"):
        CustomerTokens(KEY, ManualClock()).read(junk)


@given(place=st.integers(0, 200), char=st.sampled_from("Aa0_-."))
def test_a_changed_token_is_invalid(place: int, char: str) -> None:
    tokens = CustomerTokens(KEY, ManualClock())
    text, issued = tokens.issue("default", "ses_1", "ept_1")
    place %= len(text) - 1  # the last character carries spare bits: another one may spell the same signature
    changed = text[:place] + char + text[place + 1 :]
    if changed == text:
        assert tokens.read(changed) == issued
    else:
        with pytest.raises(TokenError, match="token_invalid"):
            tokens.read(changed)


def test_the_key_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    path = tmp_path / "token-key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _number: load_or_create_key(path), range(32)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["token-key"]


def test_a_damaged_key_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "token-key").write_bytes(b"short")
    with pytest.raises(ValueError, match="damaged"):
        load_or_create_key(tmp_path / "token-key")
