"""A media worker as on another machine: `patchbay serve --role media` over TLS, with a data folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from server.media.client import WorkersClient
from server.media.transport import WorkerAddress
from tests.helpers.certificates import Certificate, make_certificate
from tests.helpers.rtc_peer import Listener, Rig, WorkerProcess
from tests.helpers.system import ROOT, START_S, clean_environment, free_port

TOKEN = "a-token-for-tests-0123456789-abcdef"
HOST = "127.0.0.1"


@dataclass
class RemoteWorker(WorkerProcess):
    """`name` is what it calls itself; `tls` None: it listens without."""

    name: str = ""
    token: str = TOKEN
    tls: Certificate | None = None
    drain_s: int = 0
    port: int = 0
    without: tuple[str, ...] = ()  # settings that are left out

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    @property
    def log(self) -> Path:
        return self.folder / f"{self.worker_id}.log"

    @property
    def spool(self) -> Path:
        return self.folder / self.worker_id / "spool"

    @property
    def address(self) -> WorkerAddress:
        """As a control node with the right settings reaches it."""
        if self.tls is None:
            return WorkerAddress.remote(f"ws://{HOST}:{self.port}", TOKEN)
        return WorkerAddress.remote(f"wss://{HOST}:{self.port}", TOKEN, self.tls.ca)

    async def start(self) -> None:
        settings = {
            "data_dir": str(self.folder / self.worker_id), "media_name": self.name or self.worker_id,
            "media_listen": f"{HOST}:{self.port}", "media_token": self.token, "media_bind": HOST, "log_json": "true",
            "drain_s": str(self.drain_s),
        }  # fmt: skip
        if self.tls is not None:
            settings |= {"tls_cert": str(self.tls.cert), "tls_key": str(self.tls.key)}
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server", "serve", "--role", "media", cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
                env=clean_environment(self._settings(settings)), stdout=output, stderr=output,
            )  # fmt: skip

    def _settings(self, usual: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in (usual | self.environment).items() if name not in self.without}


@contextlib.asynccontextmanager
async def remote_running(folder: Path, drain_s: int = 0) -> AsyncIterator[Rig]:
    """A rig whose worker is reached over TLS; everything ends with it."""
    worker = RemoteWorker(folder, "media-a1", tls=make_certificate(folder / "tls", HOST), drain_s=drain_s)
    await worker.start()
    rig = Rig(worker, WorkersClient({worker.worker_id: worker.address}), Listener())
    await rig.engine.start(rig.listener)
    try:
        await rig.listener.until(lambda: bool(rig.listener.ups), START_S)
        yield rig
    finally:
        for peer in rig.peers:
            await peer.close()
        await rig.engine.stop()
        await worker.stop()
