"""A recorded span of a center, ready to be played, and the columns that playing it gives."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from server.clock import MonotonicClock
from server.domain.administration import Skill
from server.storage.admin_repository import StoredAdmin
from server.storage.directory import StoredDirectory
from server.whatif import past
from server.whatif.change import Names, changed
from server.whatif.comparison import AS_IT_WAS, CHANGED, Column, happened, simulated
from server.whatif.engine import simulate
from server.whatif.faults import Table
from server.whatif.workload import Center, Workload

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Replay:
    """`recorded` None: the span is made up."""

    center: Center
    workload: Workload
    names: Names
    recorded: past.Past | None = None

    @property
    def queue_names(self) -> dict[str, str]:
        return {queue.queue_id: queue.name for queue in self.center.queues}


async def recorded(engine: AsyncEngine, tenant: str, since: int, until: int, now: int, seed: int) -> Replay:
    """`since` ≤ t < `until`, UTC epoch ms. Raises past.NothingToPlay, StorageUnavailable."""
    directory = StoredDirectory(engine, MonotonicClock())
    queues, agents = await directory.queues(tenant), await directory.agents(tenant)
    skills: dict[str, str] = {}
    async with StoredAdmin(engine).reading() as transaction:
        after: tuple[int, str] | None = None
        while page := await transaction.page(Skill, tenant, _PAGE, after):
            skills |= {skill.id: skill.name for skill in page}
            after = (0, page[-1].id)
    found = await past.read(engine, tenant, since, until, now, seed)
    return Replay(Center(queues, agents), found.workload, Names(skills), found)


def play(replay: Replay, change: Table | None) -> list[Column]:
    """What happened, where that is known; as it was, simulated; and with the change. Raises BadFile, before anything is
    played."""
    other = None if change is None else changed(change, replay.center, replay.workload, replay.names)
    columns = []
    if replay.recorded is not None:
        columns.append(happened(replay.recorded.numbers, replay.recorded.times))
    columns.append(simulated(AS_IT_WAS, simulate(replay.center, replay.workload)))
    if other is not None:
        columns.append(simulated(CHANGED, simulate(*other)))
    return columns
