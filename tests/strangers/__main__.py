"""`make strangers`: a million packets of strangers reach nobody, and calls connect while they spray.

Writes bench/out/strangers.json; ends with 1 when a figure falls short."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.bench.report import Figure, at_least, at_most, percentile, report
from tests.strangers.handshakes import connect
from tests.strangers.inject import inject


async def _measure(packets: int, calls: int) -> tuple[list[Figure], dict[str, list[float]]]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        injected = await inject(Path(folder), packets)
        took_s = time.monotonic() - began
        for name, (arrived, strange) in injected.by_call.items():
            print(f"{name:8} {arrived:>9,} packets read and dropped, {strange} sent on")
        print(
            f"{injected.sent:,} sent in {took_s:.0f} s; the listeners were sent {injected.heard:,} packets of their own"
        )
    with tempfile.TemporaryDirectory() as folder:
        connected = await connect(Path(folder), calls)
        print(f"{connected.sprayed:,} packets sprayed at {calls} set-ups; failed: {connected.failed or 'none'}")
    figures = [
        at_least("injected_packets_read_percent", 100 * injected.arrived / max(1, injected.sent), "%", 99.0),
        at_most("injected_packets_heard", injected.strange, "", 0),
        at_least("sprayed_calls_connected_percent", 100 * len(connected.took_s) / max(1, calls), "%", 100),
        Figure("injected_packets", injected.sent, "", None, None),
        Figure("sprayed_calls", calls, "", None, None),
        Figure("sprayed_set_up_p95", round(percentile(connected.took_s or [0.0], 0.95), 3), "s", None, None),
    ]
    return figures, {"sprayed_set_up_s": connected.took_s}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.strangers", description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    figures, samples = uvloop.run(_measure(options.packets, options.calls))
    report("strangers", figures, samples)
    sys.exit(any(figure.holds is False for figure in figures))


if __name__ == "__main__":
    main()
