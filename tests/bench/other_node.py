"""The customers' node of `make bench-router`, a process of its own as in a center of this size: sessions begin to wait
here, at a Poisson rate, and the benchmark's node hears of them over Redis and offers them.

    python -m tests.bench.other_node POSTGRES REDIS AGENTS

It prints `ready`, reads one line {"sessions": [id], "rate", "seconds"}, and prints when each session's wait was
committed: {id: s}, by the machine's monotonic clock, which processes share. Of routing it does what a node does that
does not go first for a tenant: it writes to the index and tells the others.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
from collections.abc import Sequence

import uvloop

from server.clock import MonotonicClock
from server.domain.session import Session, derived_id
from server.routing.redis_bus import RedisBus
from server.routing.redis_connection import connect_bus
from server.routing.redis_store import RedisRouterStore
from server.routing.router import Router
from server.services.stepper import Stepper
from server.signaling.views import WirePresenter
from server.storage.postgres_steps import PostgresSteps
from tests.bench.router import Center, Nobody, Offers, enqueue


async def main(postgres: str, redis_url: str, agents: int) -> None:
    redis = connect_bus(redis_url)
    store, clock, bus = await PostgresSteps.open(postgres), MonotonicClock(), RedisBus(redis)
    stepper, offers = Stepper(store, WirePresenter(), clock), Offers()
    stepper.listen(offers)
    router = Router(RedisRouterStore(redis), store, Center(agents), clock, Nobody(), bus, stepper.apply)  # type: ignore[arg-type]  # as far as it reads
    stepper.listen(router)
    await bus.start(router.on_notice)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    asked = json.loads(await asyncio.to_thread(sys.stdin.readline))
    writing = asyncio.create_task(write(router))
    await arrive(stepper, asked["sessions"], asked["rate"], asked["seconds"])
    await router._write()
    writing.cancel()
    print(json.dumps(offers.queued), flush=True)
    await asyncio.sleep(1)  # the bus sends what it has
    await bus.stop()
    await redis.aclose()
    await store.close()


async def write(router: Router) -> None:
    """What was saved here, into the index, as soon as it is."""
    while True:
        await router._woken.wait()
        router._woken.clear()
        await router._write()


async def arrive(stepper: Stepper, session_ids: Sequence[str], rate: float, seconds: float) -> None:
    dice, loop = random.Random(1), asyncio.get_running_loop()
    arriving: set[asyncio.Task[Session]] = set()
    at = loop.time()
    end = at + seconds
    for session_id in session_ids:
        at += dice.expovariate(rate)
        if at >= end:
            break
        await asyncio.sleep(max(0.0, at - loop.time()))
        arriving.add(asyncio.create_task(stepper.apply(session_id, enqueue(derived_id(session_id, "leg", 0)))))
    await asyncio.gather(*arriving)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
