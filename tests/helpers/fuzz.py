"""How hard the random tests try: `make fuzz` (the hypothesis profile `fuzz`) multiplies their examples."""

from __future__ import annotations

import os

FUZZING = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
FACTOR = 20


def examples(number: int) -> int:
    """The number of examples for a test that usually takes `number`."""
    return number * FACTOR if FUZZING else number
