"""How soon calls are two-way again when their media worker is killed, and what a drain costs: `make bench-moves` →
bench/out/moves.json.

Control nodes, PostgreSQL, Redis, HAProxy and two media workers as processes; light peers that come back as browsers do
(tests/chaos/people.py). One worker carries 60 % of its capacity. It is killed with SIGKILL, and all its calls come up
on the other one; then that one is killed, and so on. Then each is drained with SIGTERM. Who hears whom, and when, is
read from what the peers received: a packet is 60 ms, so a gap is what lies between two packets beyond that."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server.domain.leg import LegState
from server.media.relay.__main__ import DEFAULT_CAPACITY
from server.storage import codec
from tests.bench.report import Figure, at_most, percentile, report
from tests.chaos.__main__ import quiet
from tests.chaos.stage import Stage, seen, stage
from tests.helpers.light_peer import PACKET_S, Ear
from tests.helpers.system import until

BUSY = 0.6
CALLS = int(BUSY * DEFAULT_CAPACITY / 2)  # two legs each
KILLS = 4
DRAINS = 2
DRAIN_S = 45
SETTLE_S = 5.0  # of sound after each fault: what comes later belongs to the next
SILENCE_S = 0.2  # three packets: less is the machine, not the fault
ALL_BACK_S = 60.0
SET_UP_S = 120.0


@dataclass
class Round:
    """One fault: `at` and `until` (all that it did is over), s of the monotonic clock."""

    kind: str
    at: float
    until: float = 0.0


@dataclass
class Sides:
    """Of one call: the numbers of those who talk."""

    customer: int
    agent: int


@dataclass
class Moved:
    rounds: list[Round] = field(default_factory=list)
    calls: list[Sides] = field(default_factory=list)
    ears: dict[int, Ear] = field(default_factory=dict)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    kept: int = 0  # calls that were still connected at the end


async def move(scene: Stage, calls: int, kills: int, drains: int) -> Moved:
    """Play it. All calls are up on one worker before the first fault, and are left up."""
    moved = Moved()
    busy, spare = scene.patchbay.media_parts
    await scene.patchbay.parts[spare].stop()  # so that all calls come to the other
    await _reach(scene, [busy])
    await scene.staff(calls)
    await scene.callers(calls)
    await seen(lambda: scene.talks == calls, SET_UP_S, "every agent in a call")
    for number in range(kills + drains):
        await scene.patchbay.parts[spare].start()
        await _reach(scene, [busy, spare])
        await _sound_on(scene, busy, calls)
        await asyncio.sleep(SETTLE_S)
        kind = "kill" if number < kills else "drain"
        moved.rounds.append(one := Round(kind, time.monotonic()))
        if kind == "kill":
            await scene.patchbay.parts[busy].stop(signal.SIGKILL)  # its machine is gone: nobody starts it again
        else:
            await scene.patchbay.parts[busy].stop(timeout_s=DRAIN_S + 10)
        await _sound_on(scene, spare, calls)
        one.until = time.monotonic() + SETTLE_S
        await asyncio.sleep(SETTLE_S)
        print(f"{kind} of {busy}: over after {one.until - SETTLE_S - one.at:.1f} s", flush=True)
        busy, spare = spare, busy
    moved.kept = await scene.one("SELECT COUNT(*) FROM session WHERE state = 'connected'")
    for desk in scene.desks:
        contact = desk.talking()
        if contact is not None:
            moved.calls.append(Sides(scene.customers[contact["session_id"]].number, desk.number))
    moved.ears, moved.stalls = await scene.peers.ears(), await scene.peers.stalls()
    return moved


async def _reach(scene: Stage, workers: Sequence[str]) -> None:
    """Every node reaches these workers and no others, and says so."""
    wanted = ",".join(sorted(workers))
    began = await scene.one("SELECT MAX(seen_at) FROM node")

    async def reached() -> bool:
        query = "SELECT COUNT(DISTINCT name) FROM node WHERE seen_at > ? AND workers = ?"
        return bool(await scene.one(query, began, wanted) == len(scene.patchbay.control_parts))

    await until(reached, ALL_BACK_S, f"nodes reach {wanted}", every_s=0.2)


async def _sound_on(scene: Stage, worker: str, calls: int) -> None:
    """All calls are placed on this worker, with both legs up there and nothing left elsewhere."""

    async def there() -> bool:
        rows = await asyncio.to_thread(
            scene.patchbay.rows, "SELECT body FROM session WHERE state = 'connected' AND worker_id = ?", worker
        )
        sessions = [codec.SESSION.validate_json(body) for (body,) in rows]
        legs = [leg for session in sessions for leg in session.live_legs]
        return len(sessions) == calls and all(leg.state is LegState.UP and not leg.former for leg in legs)

    with contextlib.suppress(AssertionError):  # a call that does not come back is counted, and the others go on
        await until(there, ALL_BACK_S, f"all calls on {worker}", every_s=0.3)


def back_s(at: float, over: float, heard: Sequence[float]) -> float | None:
    """From a fault until what is heard is back for good: the end of the last silence in its time. 0.0: it was never
    away; None: it did not come back."""
    first, last = bisect_left(heard, at), bisect_right(heard, over)
    edges = [heard[first - 1] if first else at, *heard[first:last], over]
    silences = [(began, ended) for began, ended in itertools.pairwise(edges) if ended - began > SILENCE_S]
    if not silences:
        return 0.0
    return None if silences[-1][1] >= over else silences[-1][1] - at


def gap_s(at: float, over: float, heard: Sequence[float]) -> float:
    """The longest time in a fault's window that nothing was heard, beyond a packet's own."""
    first, last = bisect_left(heard, at), bisect_right(heard, over)
    edges = [heard[first - 1] if first else at, *heard[first:last], over]
    return max(0.0, max(b - a for a, b in itertools.pairwise(edges)) - PACKET_S)


def measure(moved: Moved, calls: int) -> tuple[list[Figure], dict[str, list[float]]]:
    backs: list[float] = []
    gaps: list[float] = []
    lost = calls - min(moved.kept, len(moved.calls))
    for one in moved.rounds:
        for call in moved.calls:
            sides = ((call.customer, call.agent), (call.agent, call.customer))
            heard = [moved.ears.get(who, Ear({}, 0)).of.get(whom, []) for who, whom in sides]
            if one.kind == "drain":
                gaps += [gap_s(one.at, one.until, arrivals) for arrivals in heard]
                continue
            times = [back_s(one.at, one.until, arrivals) for arrivals in heard]
            if None in times:
                lost += 1
            backs.append(max(one.until - one.at if t is None else t for t in times))
    stalled = sum(ended - began for began, ended in moved.stalls)
    figures = [
        at_most("kill_to_two_way_p99_s", percentile(backs, 0.99), "s", 2.0),
        at_most("drain_gap_p99_ms", percentile(gaps, 0.99) * 1000, "ms", 300),
        at_most("calls_lost", lost, "", 0),
        Figure("kill_to_two_way_p50_s", round(percentile(backs, 0.5), 3), "s", None, None),
        Figure("kill_to_two_way_max_s", round(max(backs), 3), "s", None, None),
        Figure("drain_gap_max_ms", round(max(gaps) * 1000, 1), "ms", None, None),
        Figure("calls_on_the_worker", calls, "", None, None),
        Figure("stalls_of_the_peers", round(stalled, 2), "s", None, None),
    ]
    return figures, {"kill_to_two_way_s": sorted(backs), "drain_gap_s": sorted(gaps)}


async def main() -> int:
    quiet()
    calls = int(os.environ.get("MOVES_CALLS", CALLS))
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(os.environ.get("MOVES_FOLDER", passing))
        async with stage(folder, 0, drain_s=DRAIN_S, nodes=2) as scene:
            moved = await move(scene, calls, KILLS, DRAINS)
    figures, samples = measure(moved, calls)
    report("moves", figures, samples)
    return 1 if any(figure.holds is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
