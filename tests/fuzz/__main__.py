"""`make fuzz`: a million inputs to each parser that strangers reach. Ends with 1 when any raised what it may not."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.run import fuzz_all
from tests.fuzz.ways_memory import possible, sanitized


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each parser")
    parser.add_argument("--seed", type=int, default=None, help="of the dice; default: another one each time")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    found = asyncio.run(fuzz_all(options.inputs, seed))
    for tally in found.values():
        for failure in tally.failures:
            print(failure, file=sys.stderr)
    sys.exit(any(tally.failed for tally in found.values()) or not _compiled(options.inputs, seed))


def _compiled(inputs: int, seed: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        if not possible(Path(folder)):
            print("compiled way     left out: no compiler with AddressSanitizer")
            return True
        tried = sanitized(Path(folder), inputs, seed)
    print(f"{'compiled way':15} {tried.datagrams:>9,} inputs, {tried.carried:>9,} taken")
    print(tried.report, file=sys.stderr, end="")
    return not tried.report


if __name__ == "__main__":
    main()
