"""What we want of a SIP worker, and what it tells. Values only: a call is one dialogue (RFC 3261 section 12) between
the worker and a carrier, named by a `call_id` of ours (not SIP's Call-ID): the worker's for calls that come in, the
control node's for calls that we make.

Theory of operation. The worker knows SIP and nothing else: it keeps dialogues, retransmits, and passes SDP as text.
What a call means (its entry point, its session, when it is answered) is decided by control nodes, which may die and
come back: an order that is repeated changes nothing, a report is repeated until it is acknowledged, and a call whose
node is gone goes on. Offers within a call (a hold, another address) are counted from 1, each side's for itself; the
offer of the INVITE is number 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Party:
    """Who calls or is called, as the message says: `user` is the part of the URI before the @, a number as a rule."""

    user: str
    name: str = ""
    host: str = ""


class Side(StrEnum):
    """Who ended a call."""

    THEM = "them"
    US = "us"
    FAILED = "failed"  # nobody: a time-out, a broken transport, a worker that ended


# --- orders ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ring:
    """180 to a call that came in; with `sdp` 183, and they hear what we play (early media)."""

    call_id: str
    sdp: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """200 to a call that came in. `sdp` answers its offer; where it had none, `sdp` is our offer, and `OfferAnswered`
    with number 0 brings theirs."""

    call_id: str
    sdp: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """A final answer of 400 to 699 to a call that came in. `retry_after_s` 0: no such header."""

    call_id: str
    status: int
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class Dial:
    """Call `target` (a SIP URI). `route`: the proxy (the edge, or a trunk) that the INVITE goes to, a SIP URI with
    `;lr`; empty: where the target says. `asserted`: P-Asserted-Identity (RFC 3325), and `private` asks for Privacy: id.
    `trunk`: told to the edge, which picks its hosts."""

    call_id: str
    target: str
    caller: Party
    sdp: str
    route: str = ""
    asserted: str = ""
    private: bool = False
    trunk: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A re-INVITE with our `number`-th offer. `OfferAnswered` or `OfferRefused` says what came of it; glare (491) is
    tried again by the worker (RFC 3261 section 14.1)."""

    call_id: str
    number: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AcceptOffer:
    """200 to their `number`-th offer."""

    call_id: str
    number: int
    sdp: str


@dataclass(frozen=True, slots=True)
class RejectOffer:
    """488 to their `number`-th offer: what was agreed before goes on."""

    call_id: str
    number: int


@dataclass(frozen=True, slots=True)
class AnswerTransfer:
    """To a `TransferAsked`: 202 and then a NOTIFY of what came of it (a status line's code), or a refusal at once."""

    call_id: str
    status: int


@dataclass(frozen=True, slots=True)
class HangUp:
    """CANCEL, BYE or 603, whatever ends the call where it is now. `cause`: of ITU-T Q.850, in a Reason header
    (RFC 3326); 16 is a normal clearing."""

    call_id: str
    cause: int = 16


SipOrder = Ring | Answer | Refuse | Dial | Offer | AcceptOffer | RejectOffer | AnswerTransfer | HangUp


# --- reports -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallIn:
    """An INVITE. `called` is the request URI's. `asserted` is what a P-Asserted-Identity says, `private` that a Privacy
    header asks for it, or the caller is anonymous. `trunk`: as the edge tells it, else empty; `source` is the address
    that it came from. `sdp` empty: a late offer."""

    call_id: str
    called: Party
    caller: Party
    sdp: str
    source: str
    trunk: str = ""
    asserted: Party | None = None
    private: bool = False
    diverted_by: str = ""  # History-Info or Diversion: the number that was dialled before


@dataclass(frozen=True, slots=True)
class CallProgress:
    """A provisional answer (180 to 199) to a call of ours; with `sdp` early media is to be heard."""

    call_id: str
    status: int
    sdp: str = ""


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """A 2xx to a call of ours, and it is acknowledged."""

    call_id: str
    sdp: str


@dataclass(frozen=True, slots=True)
class CallConfirmed:
    """The ACK to our 200 has come: a call that came in is up."""

    call_id: str


@dataclass(frozen=True, slots=True)
class OfferIn:
    """Their `number`-th re-INVITE or UPDATE with an offer; it waits for `AcceptOffer` or `RejectOffer`."""

    call_id: str
    number: int
    sdp: str


@dataclass(frozen=True, slots=True)
class OfferAnswered:
    call_id: str
    number: int
    sdp: str


@dataclass(frozen=True, slots=True)
class OfferRefused:
    call_id: str
    number: int
    status: int


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A key by INFO (application/dtmf-relay or application/dtmf). `number` counts the call's presses from 1. It may be
    a card's digit: never logged."""

    call_id: str
    digit: str
    number: int


@dataclass(frozen=True, slots=True)
class TransferAsked:
    """A REFER: they want the call to go to `target` (a SIP or tel URI). It waits for `AnswerTransfer`."""

    call_id: str
    target: str


@dataclass(frozen=True, slots=True)
class CallOver:
    """The call is gone, and nothing more is told of it. `status`: of the final answer where there was no call yet, else
    200; `cause`: of a Reason header, 0 without one; `reason`: a phrase for logs."""

    call_id: str
    side: Side
    status: int
    cause: int = 0
    reason: str = ""


SipReport = (
    CallIn
    | CallProgress
    | CallAnswered
    | CallConfirmed
    | OfferIn
    | OfferAnswered
    | OfferRefused
    | KeyPressed
    | TransferAsked
    | CallOver
)
