"""Gives a target so many inputs, and counts what came of them."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from dataclasses import dataclass, field

from tests.fuzz.targets import Target, targets

BREATH = 1000  # inputs between two looks at the loop
EXAMPLES = 3


@dataclass
class Tally:
    """`taken`: inputs that the parser took for good, so that one sees how deep the rest goes. `failures`: the first few
    tracebacks; `failed`: all of them."""

    inputs: int = 0
    taken: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, text: str) -> None:
        self.failed += 1
        if len(self.failures) < EXAMPLES:
            self.failures.append(text)


async def fuzz(name: str, target: Target, count: int, seed: int) -> Tally:
    """`seed` and the number of an input make it again. Exceptions in what the loop was left with count as well."""
    tally, dice = Tally(), random.Random(f"{name} {seed}")
    asyncio.get_running_loop().set_exception_handler(lambda _, context: tally.fail(repr(context)))
    began = time.perf_counter()
    for number in range(count):
        try:
            tally.taken += target(dice)
        except Exception:  # what this program is there to find
            tally.fail(f"{name}, seed {seed}, input {number}\n{traceback.format_exc()}")
        tally.inputs += 1
        if number % BREATH == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    tally.seconds = time.perf_counter() - began
    return tally


async def fuzz_all(count: int, seed: int) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    async with targets() as known:
        for name, target in known.items():
            found[name] = await fuzz(name, target, count, seed)
            tally = found[name]
            print(
                f"{name:15} {tally.inputs:>9,} inputs, {tally.taken:>9,} taken, {tally.failed} uncaught exceptions,"
                f" {tally.seconds:.0f} s",
                flush=True,
            )
    return found
