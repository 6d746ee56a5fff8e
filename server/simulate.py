"""`patchbay simulate`: a recorded or made-up span, played as it was and with a change."""

from __future__ import annotations

import argparse
import time
from datetime import date, datetime
from pathlib import Path

from server import preflight
from server.cli import CommandFailed
from server.clock import MonotonicClock
from server.config import Config
from server.domain.directory import DEFAULT_TENANT
from server.domain.report_days import AskedDays, BadDays, days
from server.process import EXIT_CONFIG
from server.services.ports import Clock, StorageUnavailable
from server.storage import migrate as migrations
from server.storage.engine import create_engine
from server.whatif.comparison import Column, lines, trust
from server.whatif.faults import BadFile, Table, read
from server.whatif.made_day import made_day
from server.whatif.past import NothingToPlay
from server.whatif.replay import Replay, play, recorded

USAGE = 2
MAX_SPAN_MS = 31 * 86_400_000


async def run(config: Config, given: argparse.Namespace, clock: Clock | None = None) -> int:
    """Print what happened, what was simulated, and what would be with a change."""
    if (given.synthetic is None) == (given.since is None):
        raise CommandFailed("give either --from (and --to), or --synthetic FILE", USAGE)
    change = None if given.change is None else _file(given.change)
    replay = await _recorded(config, given, clock or MonotonicClock()) if given.synthetic is None else _made(given)
    if replay.recorded is not None:
        known, drawn = replay.recorded.left, replay.recorded.drawn
        print(f"patience: {known} left and tell it; of {drawn} it is drawn from those (product-limit)")
    began = time.perf_counter()
    try:
        columns = play(replay, change)
    except BadFile as bad:
        raise _bad(given.change, bad) from None
    _print(columns, replay.queue_names, time.perf_counter() - began)
    return 0


def _print(columns: list[Column], names: dict[str, str], took_s: float) -> None:
    for line in lines(columns, names):
        print(line)
    if columns[0].outcome is None:
        print(trust(columns[0], columns[1]))
    played = sum(len(column.outcome.visits) for column in columns if column.outcome is not None)
    print(f"{played} waits played in {took_s:.1f} s", flush=True)


def _made(given: argparse.Namespace) -> Replay:
    try:
        return Replay(*made_day(_file(given.synthetic), given.seed))
    except BadFile as bad:
        raise _bad(given.synthetic, bad) from None


async def _recorded(config: Config, given: argparse.Namespace, clock: Clock) -> Replay:
    now = clock.now_ms()
    since, until = _span(given, now)
    try:
        await preflight.check_schema(config)
    except (preflight.CannotStart, migrations.MigrationError) as reason:
        raise CommandFailed(str(reason), EXIT_CONFIG) from None
    engine = create_engine(config.database_url)
    try:
        return await recorded(engine, DEFAULT_TENANT, since, until, now, given.seed)
    except (NothingToPlay, StorageUnavailable) as reason:
        raise CommandFailed(str(reason)) from None
    finally:
        await engine.dispose()


def _span(given: argparse.Namespace, now: int) -> tuple[int, int]:
    """UTC epoch ms. Raises CommandFailed."""
    since = _moment("--from", given.since, given.zone, now, last=False)
    until = min(now, _moment("--to", given.until or given.since, given.zone, now, last=True))
    if since >= until:
        raise CommandFailed("--to lies before --from, or the span is yet to come", USAGE)
    if until - since > MAX_SPAN_MS:
        raise CommandFailed("at most 31 days at once", USAGE)
    return since, until


def _moment(option: str, text: str, zone: str, now: int, *, last: bool) -> int:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            wanted = "a day like 2026-01-05, or a moment with a zone like 2026-01-05T08:00+01:00, is wanted"
            raise CommandFailed(f"{option}: {wanted}, not {text!r}", USAGE) from None
        return round(at.timestamp() * 1000)
    try:
        found = days(AskedDays(zone, day), now)
    except BadDays as bad:
        raise CommandFailed(f"--zone: {bad}", USAGE) from None
    return found.until if last else found.since


def _file(path: Path) -> Table:
    """Raises CommandFailed."""
    try:
        return read(path.read_text(encoding="utf-8"), is_json=path.suffix.casefold() == ".json")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} can't be read: {error}", USAGE) from None
    except BadFile as bad:
        raise _bad(path, bad) from None


def _bad(path: Path, bad: BadFile) -> CommandFailed:
    return CommandFailed(f"{path} can't be used:\n" + "\n".join(f"  {fault}" for fault in bad.faults), USAGE)
