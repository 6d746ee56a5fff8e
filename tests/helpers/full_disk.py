"""Disks that are full: a tiny file system where this machine lets us mount one, else a limit on the size of files."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.system import System

_MOUNT = 'mkdir -p "$1" && mount -t tmpfs -o size="$2",mode=0700 tmpfs "$1" && shift 2 && exec "$@"'


def may_mount() -> bool:
    """Whether a mount namespace of our own, with a file system in it, is allowed here: as root, and not everywhere."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=4k tmpfs /mnt"]
    return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0


@dataclass(frozen=True)
class SmallDisk:
    """`folder` holds at most `kib` KiB. `wrapper` is for `system(wrapper=…)`; `limit` is called once it runs."""

    folder: Path
    kib: int
    mounted: bool

    @property
    def wrapper(self) -> tuple[str, ...]:
        if not self.mounted:
            return ()
        return ("unshare", "-m", "sh", "-c", _MOUNT, "sh", str(self.folder), f"{self.kib}k")

    def limit(self, patchbay: System) -> None:
        """Without a file system of its own: no file of a media worker grows past half of it (there are two a call)."""
        if self.mounted:
            return
        size = self.kib * 1024 // 2
        for part, pid in patchbay.pids().items():
            if part.startswith("media"):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))

    def seen_from_here(self, patchbay: System) -> Path:
        """The folder, as the system's processes see it."""
        return (
            Path(f"/proc/{patchbay.process.pid}/root") / self.folder.relative_to("/") if self.mounted else self.folder
        )

    def fill(self, patchbay: System) -> Path:
        """A file that takes all the room there is; remove it to give it back."""
        ballast = self.seen_from_here(patchbay) / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        return ballast


def small_disk(folder: Path, kib: int) -> SmallDisk:
    found = SmallDisk(folder, kib, may_mount())
    print(f"{folder}: {'a tmpfs' if found.mounted else 'RLIMIT_FSIZE of the media workers'} of {kib} KiB")
    return found
