"""How the set-up, login and history services say no: a stable code that the web front end translates.

The caller is to blame for every one of them; our own faults are other exceptions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field of the request; `loc` as in `skills.0.level`."""

    loc: str
    code: str
    message: str


class Refused(Exception):
    """`code`: not_found, changed_meanwhile, invalid, login_taken, name_taken, in_use, last_admin, overflow_cycle,
    exit_unavailable, agent_away, not_waiting, bad_credentials, rate_limited, unknown_key, nothing_to_play, whatif_busy,
    whatif_too_long, whatif_failed. `where` names what stands in the way, as (kind, name)."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        fields: tuple[FieldFault, ...] = (),
        where: tuple[tuple[str, str], ...] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.fields = fields
        self.where = where
        self.retry_after_s = retry_after_s


def not_found(what: str) -> Refused:
    """Also the answer for another tenant's rows, so that ids can't be probed."""
    return Refused("not_found", f"no such {what}")


def invalid(loc: str, code: str, message: str) -> Refused:
    return Refused("invalid", message, fields=(FieldFault(loc, code, message),))
