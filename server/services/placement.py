"""Which media worker takes a session: the one with the most room, counted in legs and in CPU. Pure.

A worker's own word is a second old, and its CPU share the mean of 15 s, so what several nodes place at one moment may
be more than it has room for: then it refuses (`worker_busy`, relay/worker.py), and the session goes elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from server.services.ports import WorkerInfo

FULL_CPU = 0.85  # of the one core that a worker can use: above it packets wait, and every call of it sounds bad
LATE_S = 0.1  # of its event loop: heard by all its calls, so it is the last choice


def fullness(worker: WorkerInfo) -> float:
    """0: nothing to do; from 1 on it takes no new session."""
    return max(worker.load / max(1, worker.capacity), (worker.cpu_share or 0.0) / FULL_CPU)


def by_room(workers: Iterable[WorkerInfo]) -> list[WorkerInfo]:
    """Those that take new sessions, the best first."""
    open_ = [worker for worker in workers if not worker.draining and fullness(worker) < 1]
    return sorted(open_, key=lambda w: ((w.loop_lag_s or 0.0) > LATE_S, fullness(w), w.worker_id))
