"""Queues that overflow into others: no circle, and nothing that leads nowhere."""

from __future__ import annotations

from collections.abc import Collection

from server.domain.administration import Queue
from server.domain.queue_life import Exit
from server.services.admin_ports import AdminTransaction
from server.services.arrivals import MAX_CHAIN
from server.services.refusals import Refused, invalid

NEEDS = {
    Exit.QUEUE: "",
    Exit.CALLBACK: "callbacks need a phone line, which this installation has not",
    Exit.VOICEMAIL: "voicemail needs call flows, which this installation has not",
}
_FIELD = "life.overflow_queue_id"
_PAGE = 500


async def check_overflow(transaction: AdminTransaction, queue: Queue) -> None:
    """Raises Refused: invalid (unknown_queue, too_long), overflow_cycle with the queues in their order."""
    chain = [queue]
    while (next_id := chain[-1].life.overflow_queue_id) is not None:
        if next_id == queue.id:
            where = tuple(("queue", one.name) for one in (*chain, queue))
            raise Refused("overflow_cycle", "these queues overflow into each other in a circle", where=where)
        found = await transaction.get(Queue, queue.tenant, next_id)
        if found is None or (len(chain) == 1 and not found.active):
            raise invalid(_FIELD, "unknown_queue", "no such active queue")
        if len(chain) >= MAX_CHAIN:
            raise invalid(_FIELD, "too_long", f"more than {MAX_CHAIN} queues in a row")
        chain.append(found)


def check_exit(queue: Queue, possible: Collection[Exit]) -> None:
    """Raises Refused: exit_unavailable, for what nothing here can carry out."""
    wanted = queue.life.exit
    if wanted not in possible:
        raise Refused("exit_unavailable", NEEDS[wanted])


async def overflowing_into(transaction: AdminTransaction, queue: Queue) -> tuple[str, ...]:
    """Names of the active queues that overflow into one."""
    names: list[str] = []
    after: tuple[int, str] | None = None
    while True:
        page = await transaction.page(Queue, queue.tenant, _PAGE, after)
        names += [one.name for one in page if one.active and one.life.overflow_queue_id == queue.id]
        if len(page) < _PAGE:
            return tuple(names)
        after = (0, page[-1].id)
