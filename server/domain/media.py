"""What the domain wants of the media plane, and what it hears back. Values only.

Theory of operation. A session is placed on one media worker under an *epoch* that never falls. The
domain says what it wants as a whole, never as a change: a `MediaPlan` names for each leg where its sound
comes from, and whether a recording runs. Applying a plan twice is the same as applying it once, so a plan
may be sent again after any loss, or to a new worker under the next epoch. Only opening a leg is an order
of its own, since it consumes an SDP offer and yields an answer.

A leg has one id for its whole life and a *generation* for each peer connection it had: a reload, a change
of network or a lost worker gives the leg a new generation ("re-anchor") while the call goes on. The old
peer connection is closed as soon as the new one carries sound.

An order may be carried out late (the database or a node was away), and a worker can't compare its clock with another
machine's. So an order that begins a part says, when it is sent, how far into the talk that is (`dated`), and the part's
place in the recording is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

LONGEST_TALK_MS = 24 * 3_600_000  # an order that seems later than that was dated by a clock that lies


class Source(StrEnum):
    """Where a leg's incoming sound is taken from, when it is not another leg."""

    SILENCE = "silence"  # nothing is sent
    QUEUE_MUSIC = "queue_music"  # a waiting customer
    HOLD_MUSIC = "hold_music"  # a customer on hold
    RINGBACK = "ringback"  # the other side rings
    COMFORT = "comfort"  # the other side is reconnecting: a quiet tone every few seconds


@dataclass(frozen=True, slots=True)
class Route:
    """What one leg hears: another leg (its id), a `Source`, or a prompt of one's own ("prompt:" and a hash). Of several
    routes of a leg it hears the mix.

    Sources and prompts are played in a loop. A prompt with a `turn`, from 1, is played once, and `PromptEnded` tells
    when it is over; while the plan names that turn it is silent then, and another turn plays it anew. `barge_in`: any
    key that the leg presses ends it."""

    leg_id: str
    hears: str  # a leg id, a Source value, or a prompt's name
    turn: int = 0
    barge_in: bool = False


@dataclass(frozen=True, slots=True)
class RecordingOrder:
    """A recording that runs while the plan holds it. A new part begins with each placement epoch.

    `started_at`: when the talk began, UTC ms by the database. `at_ms`: how far into the talk the order is sent. Either
    is None where it is not known: in orders of before these fields, and `at_ms` in one that is not sent yet. `change`
    counts pauses and their ends; it is for us, so that the worker's answer tells which of them it has carried out."""

    recording_id: str
    part: int  # 1-based
    customer_leg: str
    agent_leg: str
    paused: bool = False
    started_at: int | None = None
    at_ms: int | None = None
    change: int = 0
    without_agent: bool = False  # what the agent says now is not for the customer


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """Everything the worker should be doing for one session. A leg that is not named here is closed."""

    routes: tuple[Route, ...] = ()
    recording: RecordingOrder | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """The worker that holds a session's legs, and how many placements there have been (1-based). `incarnation`: which
    life of the worker that was; None where nobody knew."""

    worker_id: str
    epoch: int
    incarnation: str | None = None


# --- orders to a worker (outbox rows) ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """Open a peer connection for a leg; the worker's result is its SDP answer.

    A higher generation of a known leg re-anchors it; a lower or equal one is refused as `stale_generation`. `plain`:
    the offer may be a phone's (RTP/AVP, RTP/SAVP with SDES). It never is a browser's: whoever may name any address in
    plain SDP could have music sent there."""

    leg_id: str
    generation: int
    sdp: str
    plain: bool = False


@dataclass(frozen=True, slots=True)
class OfferLeg:
    """Open plain RTP for a phone leg that we call; the worker's result is an SDP offer of ours.

    `codecs`: of pcmu, pcma, g722 and opus, in the order to be offered, telephone-event and comfort noise beside them;
    `secure`: RTP/SAVP with keys in the SDP (RFC 4568), which asks for TLS around it. Refused like `OpenLeg`."""

    leg_id: str
    generation: int
    codecs: tuple[str, ...] = ("pcmu", "pcma", "g722")
    secure: bool = False


@dataclass(frozen=True, slots=True)
class AnswerLeg:
    """The phone's answer to `OfferLeg` of this generation: the leg connects. A second one takes the first one's
    place, as when a forked call is answered elsewhere (RFC 3261 section 13.2.2.4). Refused: `unknown_leg`,
    `stale_generation`, and what is wrong with the SDP; the offer stands then."""

    leg_id: str
    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class SendDigits:
    """Press keys towards the leg's peer (RFC 4733): of 0-9, *, #, A-D, 100 ms each, 60 ms apart, during which it hears
    nothing else. The result comes at once; digits of a later order follow those before. Refused: `unknown_leg`,
    `no_dtmf` (the peer has no telephone-event), `bad_digits`."""

    leg_id: str
    digits: str


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """Make the worker's state of the session equal to the plan."""

    plan: MediaPlan


@dataclass(frozen=True, slots=True)
class ReleaseSession:
    """Close all legs of the session, finalise its recording part, forget it. The epoch stays remembered."""


MediaOrder = OpenLeg | OfferLeg | AnswerLeg | SendDigits | ApplyPlan | ReleaseSession


def dated(order: MediaOrder, now: int) -> MediaOrder:
    """The order as it is sent at `now` (UTC ms by the database): a recording's says how far into the talk that is."""
    if not isinstance(order, ApplyPlan):
        return order
    recording = order.plan.recording
    if recording is None or recording.started_at is None:
        return order
    at_ms = max(0, now - recording.started_at)
    recording = replace(recording, at_ms=at_ms if at_ms <= LONGEST_TALK_MS else None)
    return ApplyPlan(replace(order.plan, recording=recording))


# --- reports from a worker ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LegUp:
    """The leg's newest generation is connected (ICE + DTLS) and its sound arrives: it can hear and be heard."""

    leg_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class LegDown:
    """The leg's newest generation is gone. `reason`: dtls_closed, ice_lost, rtp_lost, setup_timeout, failed."""

    leg_id: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class LegQuiet:
    """A connected leg can't be heard, or can again. Not a hang-up. `quiet`: no RTP for 2 s; `silent`: for as long since
    it is up, nothing but digital silence came (a microphone that is muted, or does not work). `change` counts the
    reports within the generation, from 1: a word that comes late must not undo a newer one."""

    leg_id: str
    generation: int
    quiet: bool
    change: int = 0
    silent: bool = False


@dataclass(frozen=True, slots=True)
class DigitPressed:
    """The leg's peer pressed a key (RFC 4733): one of 0-9, *, #, A-D. `number` counts the presses within the
    generation, from 1, so that a report that comes twice is one press. It may be a digit of a card: never logged."""

    leg_id: str
    generation: int
    digit: str
    number: int


class PromptEnd(StrEnum):
    PLAYED = "played"  # to its end
    KEY = "key"  # the leg pressed one; `DigitPressed` came before
    UNPLAYABLE = "unplayable"  # the worker has no such prompt, or not in a codec of the leg's


@dataclass(frozen=True, slots=True)
class PromptEnded:
    """A route's prompt that was to be played once is over. It may come twice, and a worker that takes the session over
    plays it again: a turn ends as often as it is played."""

    leg_id: str
    prompt: str
    turn: int
    reason: PromptEnd


@dataclass(frozen=True, slots=True)
class PartClosed:
    """A recording part was closed; its capture files are complete on the worker's disk."""

    recording_id: str
    part: int


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """The worker can't write the part any further (`code`: disk_full, io_error). The call goes on."""

    recording_id: str
    part: int
    code: str


MediaReport = LegUp | LegDown | LegQuiet | DigitPressed | PromptEnded | PartClosed | RecordingFailed
