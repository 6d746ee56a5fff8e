"""Errors of the API: a status, a stable code that the web front end translates, English for logs.

Codes and statuses are here and nowhere else; docs and OpenAPI are made from this table."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import ValidationError

from server.services.ports import StorageUnavailable
from server.services.refusals import FieldFault, Refused

STATUS = {
    "invalid": 422,
    "not_logged_in": 401,
    "bad_credentials": 401,
    "csrf": 403,
    "forbidden": 403,
    "not_found": 404,
    "unknown_key": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "changed_meanwhile": 409,
    "login_taken": 409,
    "name_taken": 409,
    "in_use": 409,
    "agent_away": 409,
    "not_waiting": 409,
    "last_admin": 409,
    "overflow_cycle": 409,
    "exit_unavailable": 409,
    "recording_not_ready": 409,
    "recording_unreadable": 409,
    "nothing_to_play": 409,
    "whatif_too_long": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "whatif_busy": 429,
    "internal": 500,
    "whatif_failed": 500,
    "storage_unavailable": 503,
}
_CODE_OF_STATUS = {
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}
RETRY_STORAGE_S = 2
MAX_FIELDS = 20  # a body of 256 KiB can be wrong in many places


def error_response(refused: Refused) -> web.Response:
    """The JSON answer to a refused request."""
    error: dict[str, Any] = {"code": refused.code, "message": refused.message}
    if refused.fields:
        error["fields"] = [{"loc": field.loc, "code": field.code, "message": field.message} for field in refused.fields]
    if refused.where:
        error["where"] = [{"kind": kind, "name": name} for kind, name in refused.where]
    response = web.json_response({"error": error}, status=STATUS[refused.code])
    if refused.retry_after_s is not None:
        response.headers["Retry-After"] = str(refused.retry_after_s)
    return response


def refusal_of(error: Exception) -> Refused | None:
    """The refusal that an exception of aiohttp or of a service stands for; None when it is a fault of ours."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, web.HTTPException) and 400 <= error.status < 500:
        return Refused(_CODE_OF_STATUS.get(error.status, "invalid"), error.reason)
    if isinstance(error, StorageUnavailable):
        return Refused("storage_unavailable", str(error), retry_after_s=RETRY_STORAGE_S)
    return None


def from_validation(error: ValidationError) -> Refused:
    """A body or query that does not fit its model. What was sent is not repeated: it may be a password."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    fields = tuple(
        FieldFault(".".join(str(part) for part in fault["loc"]), fault["type"], fault["msg"])
        for fault in faults[:MAX_FIELDS]
    )
    return Refused("invalid", "the request does not fit; see fields", fields=fields)
