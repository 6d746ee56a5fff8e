"""/dispositions and /break-reasons: the two lists that agents pick from."""

from __future__ import annotations

from server.domain.administration import BreakReason, Disposition
from server.signaling.access import ADMINS, STAFF
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import (
    Name,
    Page,
    PageQuery,
    Position,
    RestModel,
    Version,
    given,
)
from server.signaling.rest.record_page import record_page


class DispositionView(RestModel):
    disposition_id: str
    name: str
    position: int
    active: bool
    version: int


class BreakReasonView(RestModel):
    break_reason_id: str
    name: str
    position: int
    active: bool
    version: int


class LabelCreate(RestModel):
    """Without a position it comes last."""

    name: Name
    position: Position | None = None


class LabelChange(RestModel):
    version: Version
    name: Name | None = None
    position: Position | None = None
    active: bool | None = None


def disposition_view(label: Disposition) -> DispositionView:
    return DispositionView(
        disposition_id=label.id,
        name=label.name,
        position=label.position,
        active=label.active,
        version=label.version,
    )


def break_reason_view(label: BreakReason) -> BreakReasonView:
    return BreakReasonView(
        break_reason_id=label.id,
        name=label.name,
        position=label.position,
        active=label.active,
        version=label.version,
    )


async def list_dispositions(call: Call[Nothing, PageQuery]) -> Page[DispositionView]:
    return await record_page(call, Disposition, disposition_view)


async def create_disposition(call: Call[LabelCreate, Nothing]) -> DispositionView:
    body = call.body
    return disposition_view(await call.deps.admin.create_label(call.user, Disposition, body.name, body.position))


async def change_disposition(call: Call[LabelChange, Nothing]) -> DispositionView:
    label_id, changes = call.part("disposition_id"), given(call.body)
    return disposition_view(
        await call.deps.admin.change_label(call.user, Disposition, label_id, call.body.version, changes)
    )


async def deactivate_disposition(call: Call[Nothing, Nothing]) -> None:
    label_id = call.part("disposition_id")
    await call.deps.admin.change_label(call.user, Disposition, label_id, None, {"active": False})


async def list_break_reasons(call: Call[Nothing, PageQuery]) -> Page[BreakReasonView]:
    return await record_page(call, BreakReason, break_reason_view)


async def create_break_reason(call: Call[LabelCreate, Nothing]) -> BreakReasonView:
    body = call.body
    return break_reason_view(await call.deps.admin.create_label(call.user, BreakReason, body.name, body.position))


async def change_break_reason(call: Call[LabelChange, Nothing]) -> BreakReasonView:
    label_id, changes = call.part("break_reason_id"), given(call.body)
    return break_reason_view(
        await call.deps.admin.change_label(call.user, BreakReason, label_id, call.body.version, changes)
    )


async def deactivate_break_reason(call: Call[Nothing, Nothing]) -> None:
    label_id = call.part("break_reason_id")
    await call.deps.admin.change_label(call.user, BreakReason, label_id, None, {"active": False})


_CHANGE_CODES = ("not_found", "changed_meanwhile", "name_taken")
ENDPOINTS: Endpoints = (
    Endpoint(
        "GET",
        "/dispositions",
        "List dispositions, in order",
        STAFF,
        list_dispositions,
        query=PageQuery,
        answer=Page[DispositionView],
    ),
    Endpoint(
        "POST",
        "/dispositions",
        "Create a disposition",
        ADMINS,
        create_disposition,
        body=LabelCreate,
        answer=DispositionView,
        status=201,
        codes=("name_taken",),
    ),
    Endpoint(
        "PATCH",
        "/dispositions/{disposition_id}",
        "Change a disposition",
        ADMINS,
        change_disposition,
        body=LabelChange,
        answer=DispositionView,
        codes=_CHANGE_CODES,
    ),
    Endpoint(
        "DELETE",
        "/dispositions/{disposition_id}",
        "Deactivate a disposition; history keeps the name",
        ADMINS,
        deactivate_disposition,
        status=204,
        codes=("not_found",),
    ),
    Endpoint(
        "GET",
        "/break-reasons",
        "List break reasons, in order",
        STAFF,
        list_break_reasons,
        query=PageQuery,
        answer=Page[BreakReasonView],
    ),
    Endpoint(
        "POST",
        "/break-reasons",
        "Create a break reason",
        ADMINS,
        create_break_reason,
        body=LabelCreate,
        answer=BreakReasonView,
        status=201,
        codes=("name_taken",),
    ),
    Endpoint(
        "PATCH",
        "/break-reasons/{break_reason_id}",
        "Change a break reason",
        ADMINS,
        change_break_reason,
        body=LabelChange,
        answer=BreakReasonView,
        codes=_CHANGE_CODES,
    ),
    Endpoint(
        "DELETE",
        "/break-reasons/{break_reason_id}",
        "Deactivate a break reason; history keeps the name",
        ADMINS,
        deactivate_break_reason,
        status=204,
        codes=("not_found",),
    ),
)
