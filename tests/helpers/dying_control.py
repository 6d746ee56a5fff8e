"""Patchbay whose control node kills itself at the worst moment: a media worker has opened a leg, and what it answered
is not saved yet. `python -m tests.helpers.dying_control serve --demo` in place of `python -m server …`.

DIE_AT is a list such as 1,3: the 1st and the 3rd leg that is opened, over all lives of the control node; DIE_LOG is a
file with a line for each: session, version and index of the order, leg, digest of the answer."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from server import supervisor
from server.__main__ import main
from server.config import Config
from server.domain.media import MediaOrder, OpenLeg
from server.media.client import WorkersClient
from server.services.ports import OrderResult, OrderStamp

_order = WorkersClient.order
_parts = supervisor.parts


async def order_and_die(self: WorkersClient, worker_id: str, stamp: OrderStamp, order: MediaOrder) -> OrderResult:
    result = await _order(self, worker_id, stamp, order)
    if isinstance(order, OpenLeg) and _note(stamp, order, result) in os.environ["DIE_AT"].split(","):
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def _note(stamp: OrderStamp, order: OpenLeg, result: OrderResult) -> str:
    """Write down what was opened; how many that makes."""
    answer = hashlib.sha256((result.sdp or "").encode()).hexdigest()
    path = Path(os.environ["DIE_LOG"])
    with path.open("a") as file:
        file.write(f"{stamp.session_id} {stamp.version}.{stamp.index} {order.leg_id} {answer}\n")
    return str(len(path.read_text().splitlines()))


def dying_parts(config: Config, folder: Path, control_arguments: Sequence[str]) -> list[supervisor.Part]:
    """The same parts, with this module as the control node's."""
    control, *media = _parts(config, folder, control_arguments)
    python, _, _, *rest = control.command
    return [dataclasses.replace(control, command=(python, "-m", "tests.helpers.dying_control", *rest)), *media]


if __name__ == "__main__":
    WorkersClient.order = order_and_die  # type: ignore[method-assign]  # what this file is for
    supervisor.parts = dying_parts
    main(sys.argv[1:])
