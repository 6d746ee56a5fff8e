"""The soak of `make soak-media` at a size that `make test` has time for. Memory is left to the long one: an allocator
has not settled so soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.soak_media import WAVE, soak


@pytest.mark.timeout(120)
async def test_calls_that_are_over_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    held = await soak(tmp_path, 5 * WAVE)
    assert held[-1].calls == 5 * WAVE
    warm = held[1]  # the mixer's process has started by then
    assert {h.descriptors for h in held[2:]} == {warm.descriptors}, held
    assert {h.threads for h in held[2:]} == {warm.threads}, held
