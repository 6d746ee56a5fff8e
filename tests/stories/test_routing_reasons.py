"""Every decision can be made again from the events of the rows that it names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.domain.agent import Agent, step_agent
from server.domain.events import AgentOffered
from server.domain.session import Session
from server.domain.session_step import step
from server.routing.router import agent_word, waiting_word
from server.routing.snapshot import Snapshot
from server.storage.codec import AGENT_EVENTS, EVENTS
from tests.helpers.deployments import Deployment
from tests.helpers.world import TENANT, World, worlds


@pytest.fixture
async def world(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with worlds(tmp_path, ("north",)) as (north,):
        yield north


async def session_at(world: World, session_id: str, version: int) -> Session:
    """The fold of a session's events up to a version."""
    session: Session | None = None
    for at, kind, body in await world.rows(
        "SELECT at, type, body FROM session_event WHERE session_id = ? AND version <= ? ORDER BY version",
        session_id,
        version,
    ):
        session = step(session, EVENTS.load(kind, text(body)), at)
    assert session is not None
    return session


async def agent_at(world: World, agent_id: str, version: int) -> Agent:
    agent: Agent | None = None
    for at, kind, body in await world.rows(
        "SELECT at, type, body FROM agent_event WHERE user_id = ? AND version <= ? ORDER BY version", agent_id, version
    ):
        agent = step_agent(agent, AGENT_EVENTS.load(kind, text(body)), at)
    assert agent is not None
    return agent


def text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


async def test_each_decision_is_made_again_from_the_log(world: World) -> None:
    await world.ready("ana", "bo")
    tokens = [await world.call() for _ in range(3)]
    first = await world.offered_to(tokens[0])
    assert first == "ana"
    await world.accept(tokens[0], "ana")
    await world.after(25)  # bo missed the second
    await world.ready("bo", "chen")
    await world.after(25)
    made = 0
    for token in tokens:
        session = await world.session(token)
        offers = "SELECT version, at, body FROM session_event WHERE session_id = ? AND type = 'AgentOffered'"
        for version, at, body in await world.rows(f"{offers} ORDER BY version", session.id):
            offered = EVENTS.load("AgentOffered", text(body))
            assert isinstance(offered, AgentOffered)
            why: Any = offered.why
            assert why["session_version"] < version, "what was seen; other events may have come before the offer"
            again = Snapshot(TENANT)
            queues, profiles = await world.directory.queues(TENANT), await world.directory.agents(TENANT)
            again.set_up(queues, profiles, why["at"])
            again.take(waiting_word(await session_at(world, session.id, why["session_version"])), why["at"])
            for candidate in why["candidates"]:
                seen = await agent_at(world, candidate["agent_id"], candidate["version"])
                again.take(agent_word(seen), why["at"])
            (match,) = again.choose(why["at"])
            assert match.agent_id == offered.agent_id
            assert match.why["candidates"] == why["candidates"]
            assert at - why["at"] < 1000
            made += 1
    assert made >= 3
