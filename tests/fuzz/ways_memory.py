"""The compiled way of packets (server/media/relay/ways.c) under AddressSanitizer and UndefinedBehaviorSanitizer: random
datagrams at random ways, built and run by `ways_driver.c`."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path(__file__).with_name("ways_driver.c")
SOURCE = Path(__file__).parents[2] / "server" / "media" / "relay" / "ways.c"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RUN_S = 1800


@dataclass(frozen=True, slots=True)
class Tried:
    """What a run gave: `report` of a sanitizer, empty without a fault."""

    datagrams: int
    carried: int
    records: int
    report: str


def possible(folder: Path) -> bool:
    """Whether there is a compiler with these sanitizers."""
    if shutil.which("cc") is None:
        return False
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    return _compile(folder / "empty.c", folder / "empty").returncode == 0


def sanitized(folder: Path, inputs: int, seed: int, source: str | None = None) -> Tried:
    """Builds in `folder`, from `source` in the place of ways.c where it is given. Raises CalledProcessError when that
    does not compile."""
    (folder / "ways.c").write_text(SOURCE.read_text() if source is None else source)
    driver = DRIVER.read_text().replace("../../server/media/relay/ways.c", "ways.c")
    (folder / "driver.c").write_text(driver)
    _compile(folder / "driver.c", folder / "driver").check_returncode()
    run = subprocess.run(
        [str(folder / "driver"), str(inputs), str(seed)], capture_output=True, text=True, timeout=RUN_S, check=False
    )
    numbers = [int(number) for number in re.findall(r"\d+", run.stdout)]
    if run.returncode == 0 and len(numbers) == 3:
        return Tried(numbers[0], numbers[1], numbers[2], "")
    return Tried(0, 0, 0, run.stderr or f"it ended with {run.returncode}: {run.stdout}")


def _compile(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = ["cc", "-g", "-O1", "-std=gnu11", *SANITIZERS, str(source), "-lm", "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
