"""Inputs that are nearly right: what a parser meets is a good message with a few faults, most of the time.

Hypothesis finds small counterexamples and costs milliseconds an input; this costs microseconds, for a million."""

from __future__ import annotations

import random
from collections.abc import Sequence

ODD_BYTES = bytes((0, 1, 2, 0x0F, 0x10, 0x1F, 0x20, 0x40, 0x7F, 0x80, 0x90, 0xA0, 0xBE, 0xBF, 0xC0, 0xDE, 0xFE, 0xFF))
ODD_TEXTS = (
    "", " ", "  ", "\t", "\r", "\n", "\r\n", "\0", "a=", "m=", "c=", "=", ":", "/", "|", ";", "-1", "0", "1", "9", "64",
    "72", "127", "128", "255", "65535", "65536", "4294967296", "99999999999999999999", "٣", "é", "\ud800", "\U0001f600",
    "a" * 300, "0.0.0.0", "255.255.255.255", "224.0.0.1", "::1", "IP6", "inline:", "2^31", "udp", "typ",
)  # fmt: skip
MOST_FAULTS = 5


def mutated(dice: random.Random, seeds: Sequence[bytes], longest: int = 1400) -> bytes:
    """A seed with 0 to 5 faults: bytes set, put in, taken out, doubled, cut off, or the end of another seed."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.randrange(MOST_FAULTS + 1)):
        size = len(data)
        at = dice.randrange(size + 1)
        match dice.randrange(7):
            case 0 | 1 if at < size:
                data[at] = dice.choice(ODD_BYTES) if dice.random() < 0.5 else dice.randrange(256)
            case 2:
                data[at:at] = dice.randbytes(dice.randrange(9))
            case 3:
                del data[at : at + dice.randrange(1, 9)]
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[at : at + dice.randrange(1, 40)]
            case 6:
                data[at:] = dice.choice(seeds)[at:]
    return bytes(data[:longest])


def mutated_text(dice: random.Random, seeds: Sequence[str]) -> str:
    """A seed with 0 to 5 faults in its lines and their words."""
    lines = dice.choice(seeds).split("\r\n")
    for _ in range(dice.randrange(MOST_FAULTS + 1)):
        index = dice.randrange(len(lines))
        line = lines[index]
        match dice.randrange(8):
            case 0:
                del lines[index]
                lines = lines or [""]
            case 1:
                lines.insert(dice.randrange(len(lines) + 1), line)
            case 2:
                lines[index] = line[: dice.randrange(len(line) + 1)]
            case 3:
                lines[index] = dice.choice(dice.choice(seeds).split("\r\n"))
            case 4:
                words = line.split(" ")
                words[dice.randrange(len(words))] = dice.choice(ODD_TEXTS)
                lines[index] = " ".join(words)
            case 5:
                at = dice.randrange(len(line) + 1)
                lines[index] = line[:at] + dice.choice(ODD_TEXTS) + line[at + dice.randrange(3) :]
            case 6:
                at = dice.randrange(len(line) + 1)
                lines[index] = line[:at] + chr(dice.randrange(256)) + line[at + 1 :]
            case 7:
                other = dice.randrange(len(lines))
                lines[index], lines[other] = lines[other], line
    return dice.choice(("\r\n", "\r\n", "\r\n", "\n")).join(lines)
