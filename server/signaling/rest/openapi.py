"""OpenAPI 3.1 of the API, made from the endpoints' own data: what is mounted is what is described."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.domain.directory import Role
from server.signaling.api_errors import STATUS
from server.signaling.rest.endpoint import PREFIX, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import RestModel

READING = frozenset({"GET", "HEAD"})
_REF = "#/components/schemas/{model}"
_PART = re.compile(r"\{(\w+)\}")


class FieldFaultView(RestModel):
    loc: str
    code: str
    message: str


class WhereView(RestModel):
    kind: str
    name: str


class ErrorBody(RestModel):
    """`code` is stable; `message` is English, for logs. `where` says what stands in the way (in_use)."""

    code: str
    message: str
    fields: list[FieldFaultView] | None = None
    where: list[WhereView] | None = None


class ErrorAnswer(RestModel):
    error: ErrorBody


def openapi(endpoints: Endpoints, version: str) -> dict[str, Any]:
    """The document for /api/v1/openapi.json."""
    schemas, definitions = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, schemas)
        paths.setdefault(PREFIX + endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Patchbay", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "login": {"type": "apiKey", "in": "cookie", "name": "patchbay_session"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }


Schemas = dict[tuple[type[BaseModel], str], dict[str, Any]]


def _schemas(endpoints: Endpoints) -> tuple[Schemas, dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], Any], None] = {(ErrorAnswer, "serialization"): None}
    for endpoint in endpoints:
        if endpoint.body is not Nothing:
            wanted[endpoint.body, "validation"] = None
        if endpoint.query is not Nothing:
            wanted[endpoint.query, "validation"] = None
        if endpoint.answer is not None:
            wanted[endpoint.answer, "serialization"] = None
    found, document = models_json_schema(list(wanted), ref_template=_REF)
    return dict(found), document["$defs"]  # type: ignore[arg-type]  # the mode is a plain string to us


def _operation(endpoint: Endpoint[Any, Any], schemas: Schemas) -> dict[str, Any]:
    error = {"application/json": {"schema": schemas[ErrorAnswer, "serialization"]}}
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "tags": [endpoint.path.split("/")[1]],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PART.findall(endpoint.path)
        ]
        + _query_parameters(endpoint.query),
        "responses": {str(endpoint.status): _answer(endpoint, schemas)}
        | {
            str(status): {"description": ", ".join(codes), "content": error}
            for status, codes in _refusals(endpoint).items()
        },
        "security": _security(endpoint),
    }
    if endpoint.access.roles is not None:
        operation["x-roles"] = sorted(role.value for role in Role if role in endpoint.access.roles)
    if endpoint.body is not Nothing:
        schema = schemas[endpoint.body, "validation"]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _answer(endpoint: Endpoint[Any, Any], schemas: Schemas) -> dict[str, Any]:
    if endpoint.answer is not None:
        schema = schemas[endpoint.answer, "serialization"]
        return {"description": "Done", "content": {"application/json": {"schema": schema}}}
    if endpoint.status == 204:
        return {"description": "Done"}
    return {"description": "Done", "content": {"*/*": {}}}


def _refusals(endpoint: Endpoint[Any, Any]) -> dict[int, list[str]]:
    codes = [*endpoint.codes, "rate_limited"]
    if endpoint.body is not Nothing:
        codes += ["invalid", "too_large", "unsupported_media_type", "too_slow"]
    elif endpoint.query is not Nothing:
        codes.append("invalid")
    if endpoint.access.roles is not None:
        codes += ["not_logged_in", "forbidden"]
        codes += ["csrf"] if endpoint.method not in READING else []
    found: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(STATUS[code], []).append(code)
    return dict(sorted(found.items()))


def _security(endpoint: Endpoint[Any, Any]) -> list[dict[str, list[str]]]:
    if endpoint.access.roles is None:
        return []
    return [{"login": []} if endpoint.method in READING else {"login": [], "csrf": []}]


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    if model is Nothing:
        return []
    schema = model.model_json_schema(ref_template=_REF)
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": part}
        for name, part in schema["properties"].items()
    ]
