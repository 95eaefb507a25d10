"""The OpenAPI document of the running service: those operations of the table whose routes are registered."""

from collections.abc import Collection, Iterable, Mapping
from http import HTTPStatus

from pydantic import BaseModel

from api.caller_gate import ADMIN_ROUTES, needs_no_caller
from api.error_rendering import body_of
from api.openapi import failures, parts
from api.openapi.advice import ADVICE
from api.openapi.bodies import CORRELATION_ID
from api.openapi.operation import JSON, Header, Operation, Response, Tag
from api.openapi.operations import OPERATIONS
from api.openapi.schemas import Published, as_json, reference, schemas
from api_models import Door, ErrorBody, JsonObject
from config import VERSION
from exceptions import DefectError, MethodNotAllowedError, ServiceError

Route = tuple[str, str]  # method and path

ABOUT = """One HTTP API in front of several LLM providers, for the comparative judgement of essays.

Every response carries `X-Correlation-ID`; a UUID sent under that name is used. Every failure is an `ErrorBody` in JSON:
branch on `error_type` and the status. An unknown path gives 404, a wrong method 405 with `Allow`; `HEAD` works wherever
`GET` does. Bodies are limited: 2 MiB by default, 20,000 values, 64 levels. Fields may be added to responses and values
to their enums: a client must accept both. Unknown fields of comparison requests are ignored."""

TAGS: Mapping[Tag, str] = {
    Tag.JUDGING: "Which essay of a pair is better, why, and how certain the judge is.",
    Tag.PROVIDERS: "The providers and models that judge.",
    Tag.FIGURES: "Usage, costs and operational figures.",
    Tag.HEALTH: "Health probes, answered from known state without I/O.",
    Tag.ADMINISTRATION: "For operators, with the administrator's key.",
    Tag.DOCUMENTATION: "This documentation.",
}


def _schemes(name: str, whose: str) -> Mapping[str, JsonObject]:
    bearer = {"type": "http", "scheme": "bearer", "description": whose}
    plain = f"{whose} For clients that cannot send a bearer token."
    return {
        f"{name}Bearer": bearer,
        f"{name}Header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": plain},
    }


SCHEMES: Mapping[Door, Mapping[str, JsonObject]] = {
    Door.CALLER: _schemes("Caller", "A caller's key, where the service requires one."),
    Door.ADMIN: _schemes("Admin", "The administrator's key."),
}
WITHOUT_KEY: JsonObject = {}  # an empty security requirement: access without a key is possible


def document(routes: Collection[Route]) -> JsonObject:
    """Describe the operations among these routes."""
    rows = [row for row in OPERATIONS if (row.method, row.path) in routes]
    paths: dict[str, JsonObject] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    used = {row.tag for row in rows}
    return {
        "openapi": "3.1.0",
        "info": {"title": "LLM Provider Service", "version": VERSION, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": description} for tag, description in TAGS.items() if tag in used],
        "paths": paths,
        "components": {
            "schemas": schemas(
                (type(example) for row in rows for example in row.request_examples.values()),
                (
                    type(response.example)
                    for row in rows
                    for response in row.responses
                    if isinstance(response.example, Published)
                ),
            ),
            "responses": _failures(failures.ANYWHERE),
            "securitySchemes": {
                name: scheme
                for door, schemes in SCHEMES.items()
                if any(_door(row) is door for row in rows)
                for name, scheme in schemes.items()
            },
        },
    }


def _operation(row: Operation) -> JsonObject:
    """One row as an OpenAPI operation."""
    operation: JsonObject = {"operationId": row.name, "tags": [row.tag], "summary": row.summary}
    if row.description:
        operation["description"] = row.description
    if row.parameters:
        operation["parameters"] = [parameter.described() for parameter in row.parameters]
    if row.request_examples:
        operation["requestBody"] = {"required": True, "content": {JSON: _request_content(row.request_examples)}}
    door = _door(row)
    schemes = () if door is None else SCHEMES[door]
    operation["security"] = [{name: []} for name in schemes] + ([WITHOUT_KEY] if door is Door.CALLER else [])
    at_the_door = () if door is None else failures.AT_THE_DOOR[door]
    errors = (*row.errors, *(failures.BODY if row.request_examples else ()), *at_the_door)
    responses = {str(response.status): _response(response) for response in row.responses} | _failures(errors)
    defect = {str(DefectError.status): {"$ref": f"#/components/responses/{DefectError.status}"}}
    operation["responses"] = dict(sorted((responses | defect).items()))
    return operation


def _door(row: Operation) -> Door | None:
    """Which the key must open."""
    if row.path.startswith(ADMIN_ROUTES):
        return Door.ADMIN
    return None if needs_no_caller(row.path) else Door.CALLER


def _request_content(examples: Mapping[str, BaseModel]) -> JsonObject:
    (model,) = {type(example) for example in examples.values()}
    return {
        "schema": reference(model),
        "examples": {name: {"value": as_json(example, as_sent=True)} for name, example in examples.items()},
    }


def _response(response: Response) -> JsonObject:
    described: JsonObject = {
        "description": response.description,
        "headers": _headers((parts.CORRELATION, parts.CACHE_CONTROL, *response.headers)),
    }
    if response.example is not None:
        described["content"] = {kind: _content(response.example) for kind in response.types}
    return described


def _content(example: Published | JsonObject | str) -> JsonObject:
    if isinstance(example, Published):
        return {"schema": reference(type(example)), "example": as_json(example)}
    return {"schema": {"type": "string" if isinstance(example, str) else "object"}, "example": example}


def _failures(kinds: Iterable[type[ServiceError]]) -> JsonObject:
    """By status: the possible failures, what to do about them, and an example of each."""
    by_status: dict[int, list[type[ServiceError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _failure(status, found) for status, found in sorted(by_status.items())}


def _failure(status: int, kinds: list[type[ServiceError]]) -> JsonObject:
    codes = sorted({kind.code for kind in kinds})
    return {
        "description": "\n".join(f"- `{code}`: {ADVICE[status, code]}" for code in codes),
        "headers": _headers(
            (
                parts.CORRELATION,
                parts.CACHE_CONTROL,
                parts.RETRY_AFTER,
                *((parts.AUTHENTICATE,) if status == HTTPStatus.UNAUTHORIZED else ()),
                *((parts.ALLOW,) if MethodNotAllowedError in kinds else ()),
            )
        ),
        "content": {
            JSON: {
                "schema": reference(ErrorBody),
                "examples": {kind.__name__.removesuffix("Error"): _example(kind) for kind in kinds},
            }
        },
    }


def _example(kind: type[ServiceError]) -> JsonObject:
    body = body_of(failures.EXAMPLES[kind], CORRELATION_ID)
    return {"summary": kind.sentence, "value": body.model_dump(mode="json")}


def _headers(headers: Iterable[Header]) -> JsonObject:
    return {header.name: header.described() for header in headers}
