"""`web/core/src/wire.ts` is made from `server/signaling/protocol.py`: changing one without the other fails here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from server.signaling import protocol
from server.signaling.wire_schema import wire_schema

ROOT = Path(__file__).parents[2]
CHECK_TIMEOUT_S = 60


def test_the_schema_holds_every_message_and_view() -> None:
    names = {
        name
        for name, value in vars(protocol).items()
        if isinstance(value, type) and issubclass(value, protocol.Wire) and not name.startswith("_")
    } - {"Wire"}
    assert names <= set(wire_schema()["$defs"])


def test_what_the_server_sends_has_all_its_fields() -> None:
    defs = wire_schema()["$defs"]
    for name in ("CallView", "ContactView", "CallChanged", "AgentEnvelope", "LegAnswer"):
        assert set(defs[name]["required"]) == set(defs[name]["properties"])
    assert "sdp" not in defs["OfferAccept"]["required"]


def test_wire_ts_is_current() -> None:
    done = subprocess.run(
        [ROOT / "tools/with-node", "node", "scripts/types.mjs", "--check"],
        cwd=ROOT / "web",
        env=os.environ | {"PATCHBAY_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=CHECK_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
