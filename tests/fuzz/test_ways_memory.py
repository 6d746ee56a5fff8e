"""A few of the datagrams of `make fuzz` at the compiled way, and that a byte too far would be noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.ways_memory import SOURCE, possible, sanitized

INPUTS = 200_000


@pytest.fixture(autouse=True)
def sanitizers(tmp_path: Path) -> None:
    if not possible(tmp_path):
        pytest.skip("no compiler with AddressSanitizer")


def test_no_datagram_reaches_beyond_its_memory(tmp_path: Path) -> None:
    tried = sanitized(tmp_path, INPUTS, seed=1)
    assert not tried.report, tried.report
    assert tried.datagrams == INPUTS
    assert INPUTS // 50 < tried.records < tried.carried < INPUTS // 2, "neither all good nor all bad"


@pytest.mark.parametrize(
    "check", ["(w->rx ? TAG : 0)", "w->size + size + RECORD_EXTRA > w->room", "length > SRTP_ROOM - SRTP_TRAILER"]
)
def test_a_check_that_is_missing_is_found(check: str, tmp_path: Path) -> None:
    source = SOURCE.read_text()
    assert check in source
    tried = sanitized(tmp_path, INPUTS, 1, source.replace(check, "0").replace("size > SRTP_ROOM", "0"))
    assert "AddressSanitizer" in tried.report
