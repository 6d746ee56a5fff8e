"""Whether a child process still lives, told by what it says and by what it uses. Pure but for `vital_signs`.

It is asked at each look, twice a second, and anything that it says is a sign of life. Looks are counted, no seconds: a
worker that was stopped itself has looked only once meanwhile, and so blames nobody.

Silence of HUNG_S is a hang where the process could have spoken: it is stopped, or sleeps, or computes and yet says
nothing. One that waits for a core, or for its memory to be read from a disk, has used next to nothing: it is starved,
as the whole machine is, and a new process would be no better off. It has STARVED_S. So has one that starts, since
loading its modules takes many times longer on such a machine, and nothing is known of it before its first word."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.5
HUNG_S = 3.0  # a turn of the mixer takes 20 ms; an order to the worker waits for the mixer, and has 5 s
STARVED_S = 15.0
STARVED_CPU_S = 0.3  # in HUNG_S: a tenth of a core. A busy mixer that has so much also answers: it needs 1 ms for that


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """`state`: a letter of proc_pid_stat(5); `cpu_s`: used since its start."""

    state: str
    cpu_s: float


class Pulse:
    """Of one process, from its start."""

    def __init__(self) -> None:
        self._looks = 0  # since it was heard
        self._cpu_s: float | None = None  # when it was heard, as far as the looks know
        self._spoke = False

    @property
    def silent_s(self) -> float:
        """At least; of those in which we looked."""
        return self._looks * LOOK_S

    def heard(self) -> None:
        self._looks, self._cpu_s, self._spoke = 0, None, True

    def look(self, signs: VitalSigns | None) -> bool:
        """Every LOOK_S: whether it hangs. None: nothing can be known, which counts as starved."""
        self._looks += 1
        if signs is not None and self._cpu_s is None:
            self._cpu_s = signs.cpu_s
        return self.silent_s > (STARVED_S if not self._spoke or self._starved(signs) else HUNG_S)

    def _starved(self, signs: VitalSigns | None) -> bool:
        if signs is None or self._cpu_s is None:
            return True
        return signs.state in "RD" and signs.cpu_s - self._cpu_s < STARVED_CPU_S


def vital_signs(pid: int) -> VitalSigns | None:
    """From proc_pid_stat(5); None where there is no such file."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return VitalSigns(fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return None
