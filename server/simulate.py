"""`patchbay simulate`: a recorded or made-up span, played as it was and with a change."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from server import serving
from server.cli import CommandFailed
from server.clock import MonotonicClock
from server.config import Config
from server.domain.administration import Skill
from server.domain.directory import DEFAULT_TENANT
from server.domain.report_days import AskedDays, BadDays, days
from server.process import EXIT_CONFIG
from server.services.ports import Clock, StorageUnavailable
from server.storage import migrate as migrations
from server.storage.admin_repository import StoredAdmin
from server.storage.directory import StoredDirectory
from server.storage.engine import create_engine
from server.whatif import past
from server.whatif.change import Names, changed
from server.whatif.comparison import Column, happened, lines, simulated, trust
from server.whatif.engine import simulate
from server.whatif.faults import BadFile, Table, read
from server.whatif.made_day import made_day
from server.whatif.outcome import Outcome
from server.whatif.workload import Center, Workload

USAGE = 2
MAX_SPAN_MS = 31 * 86_400_000
_PAGE = 500


@dataclass(frozen=True, slots=True)
class _Played:
    center: Center
    workload: Workload
    names: Names
    recorded: past.Past | None


async def run(config: Config, given: argparse.Namespace, clock: Clock | None = None) -> int:
    """Print what happened, what was simulated, and what would be with a change."""
    if (given.synthetic is None) == (given.since is None):
        raise CommandFailed("give either --from (and --to), or --synthetic FILE", USAGE)
    change = None if given.change is None else _file(given.change)
    played = await _recorded(config, given, clock or MonotonicClock()) if given.synthetic is None else _made(given)
    columns = []
    if played.recorded is not None:
        columns.append(happened(played.recorded.numbers, played.recorded.times))
        known, drawn = played.recorded.left, played.recorded.drawn
        print(f"patience: {known} left and tell it; of {drawn} it is drawn from those (product-limit)")
    began = time.perf_counter()
    outcomes = [("as it was", simulate(played.center, played.workload))]
    if change is not None:
        try:
            other = changed(change, played.center, played.workload, played.names)
        except BadFile as bad:
            raise _bad(given.change, bad) from None
        outcomes.append(("with the change", simulate(*other)))
    took_s = time.perf_counter() - began
    columns += [simulated(title, outcome) for title, outcome in outcomes]
    _print(columns, {queue.queue_id: queue.name for queue in played.center.queues}, outcomes, took_s)
    return 0


def _print(columns: list[Column], names: dict[str, str], outcomes: list[tuple[str, Outcome]], took_s: float) -> None:
    for line in lines(columns, names):
        print(line)
    if columns[0].outcome is None:
        print(trust(columns[0], columns[1]))
    print(f"{sum(len(outcome.visits) for _, outcome in outcomes)} waits played in {took_s:.1f} s", flush=True)


def _made(given: argparse.Namespace) -> _Played:
    try:
        return _Played(*made_day(_file(given.synthetic), given.seed), None)
    except BadFile as bad:
        raise _bad(given.synthetic, bad) from None


async def _recorded(config: Config, given: argparse.Namespace, clock: Clock) -> _Played:
    now = clock.now_ms()
    since, until = _span(given, now)
    try:
        await serving.check_schema(config)
    except (serving.CannotStart, migrations.MigrationError) as reason:
        raise CommandFailed(str(reason), EXIT_CONFIG) from None
    engine = create_engine(config.database_url)
    try:
        directory = StoredDirectory(engine, clock)
        queues, agents = await directory.queues(DEFAULT_TENANT), await directory.agents(DEFAULT_TENANT)
        skills: dict[str, str] = {}
        async with StoredAdmin(engine).reading() as transaction:
            after: tuple[int, str] | None = None
            while page := await transaction.page(Skill, DEFAULT_TENANT, _PAGE, after):
                skills |= {skill.id: skill.name for skill in page}
                after = (0, page[-1].id)
        found = await past.read(engine, DEFAULT_TENANT, since, until, now, given.seed)
    except (past.NothingToPlay, StorageUnavailable) as reason:
        raise CommandFailed(str(reason)) from None
    finally:
        await engine.dispose()
    return _Played(Center(queues, agents), found.workload, Names(skills), found)


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
