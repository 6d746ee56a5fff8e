"""What every process of Patchbay does about its parent and its end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: starting again won't help


def die_with_parent() -> None:
    """Ask for SIGTERM when the parent dies (Linux; elsewhere the supervisor's signals must do)."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        raise SystemExit(0)
