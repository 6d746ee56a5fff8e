"""A control node and two media workers as on machines of their own: TLS between them, a data folder each."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.certificates import make_certificate
from tests.helpers.remote_worker import HOST, TOKEN, RemoteWorker
from tests.helpers.system import System, system, until

DRAIN_S = 20


@dataclass
class Machines:
    """A control node and its workers, by id; each with a data folder of its own."""

    patchbay: System
    workers: dict[str, RemoteWorker]

    async def holder(self, session_id: str) -> RemoteWorker:
        return self.workers[self.patchbay.session(session_id)["worker_id"]]

    async def moved(self, session_id: str, epoch: int) -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            session = self.patchbay.session(session_id)
            return session if session["epoch"] >= epoch and session["former"] is None else None

        found: dict[str, Any] = await until(there, 15, f"epoch {epoch} of {session_id}")
        return found


@asynccontextmanager
async def machines(folder: Path) -> AsyncIterator[Machines]:
    certificate = make_certificate(folder / "tls", HOST)
    workers = {name: RemoteWorker(folder, name, tls=certificate, drain_s=DRAIN_S) for name in ("media-a1", "media-b1")}
    for worker in workers.values():
        await worker.start()
    urls = ",".join(f"{name}=wss://{HOST}:{worker.port}" for name, worker in workers.items())
    try:
        async with system(folder, media_urls=urls, media_token=TOKEN, media_ca=str(certificate.ca)) as patchbay:
            yield Machines(patchbay, workers)
    finally:
        for worker in workers.values():
            if worker.process is not None and worker.process.returncode is None:
                worker.process.send_signal(signal.SIGTERM)
                worker.process.send_signal(signal.SIGTERM)  # no drain
                await worker.process.wait()
