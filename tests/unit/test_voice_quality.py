"""The E-model against published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.voice_quality import _mos, mos, one_way_ms, r_factor

LOSS, DELAY = st.floats(0, 1), st.floats(0, 2_000)


@pytest.mark.parametrize(
    ("r", "wanted"),
    # G.107 (06/2015), table B.1: the lower limits of user satisfaction
    [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (93.2, 4.41)],
)
def test_mos_of_r(r: float, wanted: float) -> None:
    assert _mos(r) == pytest.approx(wanted, abs=0.01)


def test_known_points() -> None:
    assert r_factor(0, 0) == 93.2
    assert r_factor(0, 177.3) == pytest.approx(93.2 - 4.255, abs=0.001)
    assert r_factor(0.05, 0) == pytest.approx(93.2 - 95 * 5 / 30.1), "5 % random loss, G.711 with concealment"
    assert one_way_ms(100, 30) == 50 + 20 + 60
    assert one_way_ms(None, 0) == 40


@given(LOSS, LOSS, DELAY, DELAY)
def test_it_never_gets_better_with_loss_or_delay(loss: float, more: float, delay: float, later: float) -> None:
    assert 1 <= mos(loss, delay) <= 4.41
    assert mos(max(loss, more), max(delay, later)) <= mos(min(loss, more), min(delay, later)) + 1e-9
