"""The invariants of a center, read from its database and files alone: what the log says, told by the pure core again.

    log = read_log(database)
    for verdict in [folds(log), order_kept(log, …), …]: verdict.holds

A verdict says how much was looked at (nothing: it does not hold) and every fault. Times are UTC ms unless they say
otherwise. The product's own metrics and reports are not asked."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from server.domain import agent as ag
from server.domain import events as ev
from server.domain import recording as recordings
from server.domain.agent import Agent, AgentState, step_agent
from server.domain.capacity import VOICE
from server.domain.deadlines import deadlines
from server.domain.effects import routable
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.segment import NEXT, SegmentState
from server.domain.session import MAX_RINGING, REJECT_PAUSE_MS, Session, SessionState
from server.domain.session_step import step
from server.media.peer import RATE, spectrum_peak
from server.services.ports import SoundDamaged
from server.storage import codec
from tests.helpers.database import Database
from tests.helpers.light_peer import PITCHES_HZ, Ear
from tests.helpers.sealing import read_sound

OWNED = (SegmentState.CONNECTING, SegmentState.TALKING, SegmentState.HELD)
MAX_SHOWN = 5  # faults in a verdict's text

TICK_MS = 1_000  # invariant 6: the head of the queue is offered within a second
CLAIM_MS = 5_000  # a node that dies with a claim in its hand keeps the session from others for so long
LATE_MS = 2_000  # a deadline's sweep, on a machine that has other things to do
OUTAGE_OVER_MS = 3_000  # nodes find the database again
RECORDING_MS = 200
CLOCKS_MS = 20  # nodes follow the database's clock, each in its own small steps
NODES_APART_MS = 200  # a node that has just started: it took the time with half a round trip's error, on a busy machine
PITCH_HZ = 15.0
MATTERS_S = 0.15  # a shorter gap is none


@dataclass
class Verdict:
    """One invariant. `worst` is a figure of how near it came, in `unit`."""

    name: str
    looked_at: int = 0
    faults: list[str] = field(default_factory=list)
    worst: float = 0.0
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.looked_at > 0 and not self.faults

    def __str__(self) -> str:
        shown = "".join(f"\n    {fault}" for fault in self.faults[:MAX_SHOWN])
        more = f"\n    and {len(self.faults) - MAX_SHOWN} more" if len(self.faults) > MAX_SHOWN else ""
        worst = f", worst {self.worst:g} {self.unit}" if self.unit else ""
        return f"{self.name}: {self.looked_at} looked at{worst}, {len(self.faults)} faults{shown}{more}"

    def check(self, right: bool, fault: str) -> None:
        self.looked_at += 1
        if not right:
            self.faults.append(fault)


@dataclass(frozen=True)
class Step:
    """One line of a session's log, and the session before and after it."""

    at: int
    before: Session | None
    event: ev.Event
    after: Session


@dataclass(frozen=True)
class AgentStep:
    at: int
    before: Agent | None
    after: Agent


@dataclass
class Log:
    """What the database holds. `sessions` and `agents` are the rows' bodies; `steps` what their events fold to, as far
    as they do: why they don't is in `broken`, by session or user."""

    sessions: dict[str, Session]
    columns: dict[str, Mapping[str, Any]]  # of the session rows
    steps: dict[str, list[Step]]
    versions: dict[str, list[int]]
    agents: dict[str, Agent]
    agent_steps: dict[str, list[AgentStep]]
    agent_versions: dict[str, list[int]]
    segments: dict[str, Mapping[str, Any]]
    visits: dict[str, Mapping[str, Any]]
    recordings: dict[str, Mapping[str, Any]]
    skilled: dict[str, frozenset[str]]  # by queue: who may serve it
    left: dict[str, int]  # rows of tables that should be empty when nothing is open
    broken: dict[str, str]


def read_log(database: Database) -> Log:
    """Read it all, and fold it."""
    broken: dict[str, str] = {}
    sessions: dict[str, Mapping[str, Any]] = {
        row["id"]: row
        for row in _rows(
            database,
            "session",
            "id version state done worker_id epoch created_at talk_started_at ended_at end_reason customer_name body",
        )
    }
    events: dict[str, list[tuple[int, int, ev.Event]]] = defaultdict(list)
    query = "SELECT session_id, version, at, type, body FROM session_event ORDER BY session_id, version"
    for session_id, version, at, kind, body in database.rows(query):
        events[session_id].append((version, at, codec.EVENTS.load(kind, body)))
    agent_events: dict[str, list[tuple[int, int, ag.AgentEvent]]] = defaultdict(list)
    query = "SELECT user_id, version, at, type, body FROM agent_event ORDER BY user_id, version"
    for user_id, version, at, kind, body in database.rows(query):
        agent_events[user_id].append((version, at, codec.AGENT_EVENTS.load(kind, body)))
    segment_columns = (
        "id session_id number agent_id queue_id state offered_at accepted_at talk_started_at talk_ended_at done_at"
        " end_reason"
    )
    recording_columns = "id session_id segment_id state reason started_at ended_at parts duration_ms archive"
    return Log(
        sessions={id_: codec.SESSION.validate_json(row["body"]) for id_, row in sessions.items()},
        columns=sessions,
        steps={id_: _fold(id_, lines, broken) for id_, lines in events.items()},
        versions={id_: [version for version, _, _ in lines] for id_, lines in events.items()},
        agents={
            row["user_id"]: codec.AGENT.validate_json(row["body"]) for row in _rows(database, "agent", "user_id body")
        },
        agent_steps={id_: _fold_agent(id_, lines, broken) for id_, lines in agent_events.items()},
        agent_versions={id_: [version for version, _, _ in lines] for id_, lines in agent_events.items()},
        segments=_by_id(database, "segment", segment_columns),
        visits=_by_id(database, "queue_visit", "id session_id queue_id entered_at ended_at outcome"),
        recordings=_by_id(database, "recording", recording_columns),
        skilled=_skilled(database),
        left={
            table: database.rows(f"SELECT COUNT(*) FROM {table}")[0][0]
            for table in ("deadline", "outbox", "order_lease")
        },
        broken=broken,
    )


def _rows(database: Database, table: str, columns: str) -> Iterator[dict[str, Any]]:
    names = columns.split()
    for row in database.rows(f"SELECT {', '.join(names)} FROM {table}"):
        yield dict(zip(names, row, strict=True))


def _by_id(database: Database, table: str, columns: str) -> dict[str, Mapping[str, Any]]:
    return {row["id"]: row for row in _rows(database, table, columns)}


def _skilled(database: Database) -> dict[str, frozenset[str]]:
    query = (
        'SELECT q.id, u.id FROM queue q CROSS JOIN "user" u WHERE NOT EXISTS (SELECT 1 FROM queue_skill n'
        " WHERE n.queue_id = q.id AND NOT EXISTS (SELECT 1 FROM user_skill h"
        " WHERE h.user_id = u.id AND h.skill_id = n.skill_id AND h.level >= n.level))"
    )
    able: dict[str, set[str]] = defaultdict(set)
    for queue_id, user_id in database.rows(query):
        able[queue_id].add(user_id)
    return {queue_id: frozenset(users) for queue_id, users in able.items()}


def _fold(session_id: str, lines: Sequence[tuple[int, int, ev.Event]], broken: dict[str, str]) -> list[Step]:
    steps: list[Step] = []
    session: Session | None = None
    for version, at, event in lines:
        try:
            after = step(session, event, at)
        except (Stale, Refused, IllegalTransition) as fault:
            broken[session_id] = f"version {version}: {type(event).__name__}: {fault!r}"
            break
        steps.append(Step(at, session, event, after))
        session = after
    return steps


def _fold_agent(
    user_id: str, lines: Sequence[tuple[int, int, ag.AgentEvent]], broken: dict[str, str]
) -> list[AgentStep]:
    steps: list[AgentStep] = []
    agent: Agent | None = None
    for version, at, event in lines:
        try:
            after = step_agent(agent, event, at)
        except (Stale, Refused, IllegalTransition) as fault:
            broken[user_id] = f"version {version}: {type(event).__name__}: {fault!r}"
            break
        steps.append(AgentStep(at, agent, after))
        agent = after
    return steps


# --- sessions ------------------------------------------------------------------------------------------


def none_lost_or_doubled(log: Log, names: Mapping[str, str], *, ended: bool) -> Verdict:
    """`names`: of each session that was made, its customer's. Each is there once, and nothing else is. `ended`: all of
    them have ended by now, by exactly one terminal event each."""
    verdict = Verdict("each session once, in one state")
    for session_id, name in names.items():
        rows = [id_ for id_, row in log.columns.items() if row["customer_name"] == name]
        verdict.check(rows == [session_id], f"{session_id} of {name}: in the database are {rows}")
    for session_id in log.sessions.keys() - names.keys():
        verdict.faults.append(f"{session_id}: nobody made it")
    for session_id, steps in log.steps.items():
        ends = [s for s in steps if s.after.ended and not (s.before is not None and s.before.ended)]
        verdict.check(len(ends) == (1 if ended else len(ends[:1])), f"{session_id}: {len(ends)} terminal events")
        revived = [s for s in steps if s.before is not None and s.before.ended and not s.after.ended]
        verdict.check(not revived, f"{session_id}: alive again after its end")
    return verdict


def rows_are_folds(log: Log) -> Verdict:
    """Versions are 1, 2, 3 …, and session, segment, visit, recording and agent rows say what the events fold to."""
    verdict = Verdict("rows are the folds of their events")
    for owner, versions in {**log.versions, **log.agent_versions}.items():
        verdict.check(versions == list(range(1, len(versions) + 1)), f"{owner}: versions {versions}")
    for owner, fault in log.broken.items():
        verdict.faults.append(f"{owner}: {fault}")
    for session_id, session in log.sessions.items():
        steps = log.steps.get(session_id)
        verdict.check(
            bool(steps) and steps is not None and steps[-1].after == session, f"{session_id}: row and log differ"
        )
        columns, talk = log.columns[session_id], session.talk_started_at
        told = (session.version, session.state, session.done, session.worker_id, session.epoch, session.ended_at, talk)
        names = ("version", "state", "done", "worker_id", "epoch", "ended_at", "talk_started_at")
        verdict.check(told == tuple(columns[name] for name in names), f"{session_id}: columns and body differ")
        for segment in session.segments:
            row = log.segments.get(segment.id, {})
            verdict.check(all(getattr(segment, key) == row[key] for key in row if key != "session_id") and bool(row),
                          f"{segment.id}: row {row}")  # fmt: skip
        for visit in session.visits:
            row = log.visits.get(visit.id, {})
            verdict.check(bool(row) and (visit.ended_at, visit.outcome) == (row["ended_at"], row["outcome"]),
                          f"{visit.id}: row {row}")  # fmt: skip
    for user_id, agent in log.agents.items():
        agent_steps = log.agent_steps.get(user_id)
        verdict.check(bool(agent_steps) and agent_steps is not None and agent_steps[-1].after == agent,
                      f"{user_id}: row and log differ")  # fmt: skip
    counted = sum(s.offers for s in log.sessions.values()), sum(len(s.visits) for s in log.sessions.values())
    verdict.check(counted == (len(log.segments), len(log.visits)), "segment or visit rows that no session holds")
    return verdict


def only_allowed_steps(log: Log) -> Verdict:
    """One owner at most, who rings alone unless the queue rings all; only transitions of the table, epochs never fall,
    a visit ends once, and the place in the queue is kept for ever."""
    verdict = Verdict("only transitions of the table")
    for session_id, steps in log.steps.items():
        for line in steps:
            before, after = line.before, line.after
            what = f"{session_id} v{after.version} {type(line.event).__name__}"
            owners = [s.agent_id for s in after.segments if s.state in OWNED]
            ringing = [s.agent_id for s in after.segments if s.state is SegmentState.OFFERED]
            most = MAX_RINGING if after.queue.ring_all else 1
            waits = [v for v in after.visits if v.outcome is None]
            verdict.check(len(owners) <= 1, f"{what}: {len(owners)} owners")
            verdict.check(not (owners and ringing), f"{what}: {owners} has it, and it rings for {ringing}")
            verdict.check(len(set(ringing)) == len(ringing) <= most, f"{what}: rings for {ringing}")
            waiting = after.state in (SessionState.QUEUED, SessionState.PLACE_KEPT)
            verdict.check(len(waits) == waiting, f"{what}: {len(waits)} open visits")
            if before is None:
                continue
            verdict.check(after.epoch >= before.epoch, f"{what}: epoch {before.epoch} -> {after.epoch}")
            verdict.check(after.order_key == before.order_key, f"{what}: another place in the queue")
            for old in before.segments:
                new = after.segment(old.id)
                if new is None:
                    verdict.check(old.state is SegmentState.DONE, f"{what}: lost a segment that is {old.state}")
                    continue
                allowed = new.state is old.state or new.state in NEXT[old.state]
                verdict.check(allowed, f"{what}: segment {old.state} -> {new.state}")
            for was, now in zip(before.visits, after.visits, strict=False):
                verdict.check(was.outcome in (None, now.outcome), f"{what}: a visit ends again")
    return verdict


def deadlines_kept(log: Log, outages: Sequence[tuple[int, int]], now: int, limit_ms: int = LATE_MS) -> Verdict:
    """Nothing that has a deadline outlives it by more than `limit_ms`, `outages` of the database not counted."""
    verdict = Verdict("no offer outlives its deadline", unit="ms")
    for session_id, steps in log.steps.items():
        for line, until in zip(steps, [*(s.at for s in steps[1:]), None], strict=True):
            for deadline in deadlines(line.after):
                over = (now if until is None else until) - deadline.at
                late = over - _overlap(deadline.at, deadline.at + over, outages)
                verdict.worst = max(verdict.worst, late)
                verdict.check(late <= limit_ms, f"{session_id}: {deadline.kind} is {late} ms over")
    return verdict


def _overlap(began: int, ended: int, outages: Sequence[tuple[int, int]]) -> int:
    return sum(max(0, min(ended, to + OUTAGE_OVER_MS) - max(began, at)) for at, to in outages)


# --- the queue -----------------------------------------------------------------------------------------


def order_kept(log: Log, disturbed: Sequence[tuple[int, int]], limit_ms: int = TICK_MS) -> Verdict:
    """No session is offered to somebody while an earlier one of its queue could have been: one that is routable, that
    rings for nobody, that this agent has not just declined, and that goes on waiting. Earlier: (priority, first
    arrival, id).

    What the log proves. An offer is chosen from the index, then claimed, then saved, by any node: for `limit_ms` before
    and after it the index may not say what the log says, since a node takes in what it saved, and a look is one tick
    at most. So an overtaking counts when the earlier one was routable for longer than that on both sides. A node that
    dies with a claim keeps a session back for CLAIM_MS more: `disturbed` are the times when one died or lost its
    index."""
    verdict = Verdict("order within a queue", unit="ms overtaken")
    spans = list(routable_spans(log))
    allowed = [(began, ended + CLAIM_MS + TICK_MS) for began, ended in disturbed]
    for session_id, steps in log.steps.items():
        for line in steps:
            if not isinstance(line.event, ev.AgentOffered):
                continue
            verdict.looked_at += 1
            mine, at = line.after, line.at
            for began, ended, other in spans:
                if other.queue.queue_id != mine.queue.queue_id or other.order_key >= mine.order_key:
                    continue
                by = min(at - began, ended - at)
                declined = any(
                    r.agent_id == line.event.agent_id and at - r.at < REJECT_PAUSE_MS for r in other.rejections
                )
                if by <= 0 or declined:
                    continue
                verdict.worst = max(verdict.worst, by)
                limit = limit_ms + (CLAIM_MS if any(a <= at <= b for a, b in allowed) else 0)
                if by > limit:
                    about = f"routable from {at - began} ms before it until {ended - at} ms after it"
                    verdict.faults.append(f"{session_id} v{mine.version} at {at}: overtakes {other.id}, {about}")
    return verdict


def routable_spans(log: Log) -> Iterator[tuple[int, int, Session]]:
    """(from, to, the session then). One that flows out waits in the other queue from then on."""
    for steps in log.steps.values():
        began: int | None = None
        for line in steps:
            waits = routable(line.after) and line.after.unattended
            if began is None and waits:
                began = line.at
            elif (
                began is not None and line.before is not None and not (waits and line.before.queue == line.after.queue)
            ):
                yield began, line.at, line.before
                began = line.at if waits else None


# --- agents --------------------------------------------------------------------------------------------


def capacity_kept(log: Log) -> Verdict:
    """Never more contacts than an agent's capacity, and none for one who is unskilled, paused, offline or has no live
    tab. By the agents' log, whose order is that of its versions, and, apart from it, by the segments' times, which
    different nodes may have put there."""
    verdict = Verdict("load within capacity")
    held: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for segment_id, row in log.segments.items():
        agent_id, offered_at, done_at = row["agent_id"], row["offered_at"], row["done_at"]
        able = agent_id in log.skilled.get(row["queue_id"], frozenset())
        verdict.check(able, f"{segment_id}: {agent_id} lacks a skill")
        over = max(offered_at, (offered_at if done_at is None else done_at) - NODES_APART_MS)
        held[agent_id] += [(offered_at, 1), (over, -1)]
    for user_id, steps in log.agent_steps.items():
        for line in steps:
            load = len(line.after.contacts)
            verdict.check(load <= _room(line.after), f"{user_id} v{line.after.version}: {load} contacts")
            if line.before is not None and load > len(line.before.contacts):
                verdict.check(line.before.available, f"{user_id} v{line.after.version}: not free for an offer")
    for user_id, changes in held.items():
        load = 0
        for at, change in sorted(changes):
            load += change
            verdict.check(load <= _room(log.agents[user_id]), f"{user_id} at {at}: {load} segments at once")
    return verdict


def _room(agent: Agent) -> int:
    """The centers that are checked so have voice sessions only."""
    return agent.capacity.most(VOICE)


def seconds_add_up(log: Log, now: int) -> Verdict:
    """An agent's times in each state are all of the time since the first login, and those with a contact are the times
    of the segments: two logs that say the same."""
    verdict = Verdict("agents' seconds add up", unit="ms apart")
    of_segments: dict[tuple[str, AgentState], int] = defaultdict(int)
    for row in log.segments.values():
        agent_id, accepted_at, over = row["agent_id"], row["accepted_at"], row["done_at"] or now
        ring_over, talk_over = accepted_at or over, row["talk_ended_at"] or over
        of_segments[agent_id, AgentState.RINGING] += ring_over - row["offered_at"]
        if accepted_at is not None:
            of_segments[agent_id, AgentState.ON_CONTACT] += talk_over - accepted_at
        of_segments[agent_id, AgentState.WRAP_UP] += over - talk_over if row["talk_ended_at"] is not None else 0
    for user_id, steps in log.agent_steps.items():
        times: dict[AgentState, int] = defaultdict(int)
        for line, until in zip(steps, [*(s.at for s in steps[1:]), now], strict=True):
            times[line.after.state] += until - line.at
        verdict.check(sum(times.values()) == now - steps[0].at, f"{user_id}: {times} since {steps[0].at}")
        for state in (AgentState.RINGING, AgentState.ON_CONTACT, AgentState.WRAP_UP):
            apart = abs(times[state] - of_segments[user_id, state])
            verdict.worst = max(verdict.worst, apart)
            verdict.check(apart <= CLOCKS_MS, f"{user_id}: {state} {times[state]} ms, segments {apart} ms apart")
    return verdict


# --- sound ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """Who is which person of the light peers, and how far the machine's monotonic clock is behind UTC, s."""

    customers: Mapping[str, int]  # by session
    agents: Mapping[str, int]  # by user
    utc_minus_monotonic_s: float


@dataclass
class Talk:
    """One side of one talk, by the monotonic clock, s. `set_up_s`: until the first packet. `gaps`: longest first."""

    segment_id: str
    side: str
    began: float
    ended: float
    set_up_s: float
    gaps: list[tuple[float, float]]  # (length, when it began)

    @property
    def longest_s(self) -> float:
        return self.gaps[0][0] if self.gaps else 0.0


def talks(
    log: Log,
    ears: Mapping[int, Ear],
    numbers: Numbers,
    verdict: Verdict,
    stalls: Sequence[tuple[float, float]] = (),
) -> list[Talk]:
    """What each side of each talk heard of the other. Who hears nothing, or somebody else, is a fault. `stalls` of the
    process of the ears are taken off the gaps."""
    found: list[Talk] = []
    for session in log.sessions.values():
        for segment in session.segments:
            ended = segment.talk_ended_at
            if segment.talk_started_at is None or ended is None or session.id not in numbers.customers:
                continue
            window = tuple(at / 1000 - numbers.utc_minus_monotonic_s for at in (segment.talk_started_at, ended))
            people = numbers.customers[session.id], numbers.agents[segment.agent_id]
            for side, (listener, speaker) in {"customer": people, "agent": people[::-1]}.items():
                ear = ears.get(listener, Ear({}, 0))
                heard = {who: [t for t in at if window[0] <= t <= window[1]] for who, at in ear.of.items()}
                verdict.looked_at += len(heard.get(speaker, ()))
                strangers = [who for who, at in heard.items() if at and who != speaker]
                if strangers:
                    verdict.faults.append(f"{segment.id}: the {side} hears {strangers} besides {speaker}")
                at = heard.get(speaker, [])
                if not at:
                    if window[1] - window[0] > 1.0:
                        verdict.faults.append(
                            f"{segment.id}: the {side} hears nothing for {window[1] - window[0]:.1f} s"
                        )
                    continue
                edges = [*at, window[1]]
                gaps = sorted(((b - a - _stalled(a, b, stalls), a) for a, b in itertools.pairwise(edges)), reverse=True)
                found.append(Talk(segment.id, side, window[0], window[1], at[0] - window[0], gaps[:20]))
    return found


def _stalled(began: float, ended: float, stalls: Sequence[tuple[float, float]]) -> float:
    if ended - began < MATTERS_S:
        return 0.0
    return sum(max(0.0, min(ended, to) - max(began, at)) for at, to in stalls)


def recordings_whole(log: Log, folder: Path, *, off_ms: int = RECORDING_MS, parts: bool = False) -> Verdict:
    """A recording is there exactly when its files are, they decode and have their hash, and are as long as the talk;
    each side holds the sound of that side. `off_ms`: at most so much longer or shorter than the talk. `parts`: some
    have more than one."""
    verdict = Verdict("recordings are whole and playable", unit="ms off")
    files = {path.name for path in folder.glob("*/*/*.opus")}
    named: set[str] = set()
    for session in log.sessions.values():
        talked = {s.id: s for s in session.segments if s.talk_started_at is not None and session.queue.record}
        ids = [r.segment_id for r in session.recordings]
        verdict.check(sorted(ids) == sorted(talked), f"{session.id}: recordings of {ids}, talks {list(talked)}")
        for recording in session.recordings:
            row, segment = log.recordings.get(recording.id, {}), talked[recording.segment_id]
            ready = recording.state is recordings.RecordingState.READY and row.get("state") == "ready"
            if not ready or recording.reason is not None or segment.talk_ended_at is None:
                verdict.check(False, f"{recording.id}: {recording.state}, {recording.reason}, row {row.get('state')}")
                continue
            assert segment.talk_started_at is not None
            talk_ms = segment.talk_ended_at - segment.talk_started_at
            archive = json.loads(row["archive"])
            for side in ("customer", "agent"):
                path = folder / session.tenant / session.id / archive[side]["file"]
                named.add(path.name)
                fault, off = _file_fault(path, archive[side], talk_ms, PITCHES_HZ[side], off_ms)
                verdict.worst = max(verdict.worst, off)
                verdict.check(not fault, f"{recording.id} {side}: {fault}")
            off = abs(row["duration_ms"] - talk_ms)
            verdict.worst = max(verdict.worst, off)
            verdict.check(off <= off_ms, f"{recording.id}: {row['duration_ms']} ms of a talk of {talk_ms} ms")
    verdict.check(files == named, f"files that no row names: {files - named}")
    if parts:
        verdict.check(any(len(r.parts) > 1 for s in log.sessions.values() for r in s.recordings), "none in parts")
    return verdict


def _file_fault(path: Path, archived: Mapping[str, Any], talk_ms: int, pitch_hz: float, off_ms: int) -> tuple[str, int]:
    """What is wrong with one side's file, and how far its length is off, ms."""
    try:
        data = read_sound(path)
    except FileNotFoundError:
        return f"{path.name} is missing", 0
    except SoundDamaged as error:
        return f"does not open: {error}", 0
    if (len(data), hashlib.sha256(data).hexdigest()) != (archived["size_bytes"], archived["sha256"]):
        return "another hash or size", 0
    samples, middle = 0, talk_ms * RATE // 2000
    heard: list[np.ndarray[Any, Any]] = []
    try:
        with av.open(io.BytesIO(data), "r") as container:
            for frame in container.decode(audio=0):
                samples += frame.samples
                if abs(samples - middle) < RATE // 4:
                    heard.append(frame.to_ndarray()[0])
    except av.FFmpegError as error:
        return f"does not decode: {error}", 0
    off = abs(samples * 1000 // RATE - talk_ms)
    if off > off_ms:
        return f"{off} ms longer or shorter than the talk", off
    peak = spectrum_peak(np.concatenate(heard)) if heard else 0.0
    if talk_ms > 2_000 and abs(peak - pitch_hz) > PITCH_HZ:
        return f"sounds at {peak:.0f} Hz, not {pitch_hz:.0f}", off
    return "", off


def nothing_left(log: Log) -> Verdict:
    """With every session done no deadline, order or lease of one is left. (Agents' own deadlines may be.)"""
    verdict = Verdict("nothing is left to do")
    for session in log.sessions.values():
        verdict.check(session.done, f"{session.id}: {session.state}, not done")
        open_ = [s.id for s in session.segments if s.state is not SegmentState.DONE]
        verdict.check(not open_, f"{session.id}: open segments {open_}")
    verdict.check(log.left["outbox"] == log.left["order_lease"] == 0, f"rows left: {log.left}")
    return verdict
