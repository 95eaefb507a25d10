"""The parts of one row of the table of operations, and parameters and headers in OpenAPI notation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel

from api.openapi.schemas import Published
from api_models import JsonObject
from exceptions import ServiceError

JSON = "application/json"


class Tag(StrEnum):
    """How operations are grouped."""

    JUDGING = "Judging"
    PROVIDERS = "Providers"
    FIGURES = "Figures"
    HEALTH = "Health"
    ADMINISTRATION = "Administration"
    DOCUMENTATION = "Documentation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter; only path parameters are required."""

    name: str
    where: Literal["path", "query", "header"]
    description: str
    schema: JsonObject
    example: object = None

    def described(self) -> JsonObject:
        """In OpenAPI notation."""
        parameter = {
            "name": self.name,
            "in": self.where,
            "required": self.where == "path",
            "description": self.description,
        }
        example = {} if self.example is None else {"example": self.example}
        return {**parameter, "schema": self.schema, **example}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A response header."""

    name: str
    description: str
    schema: JsonObject
    always: bool = True

    def described(self) -> JsonObject:
        """In OpenAPI notation."""
        return {"description": self.description, "required": self.always, "schema": self.schema}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response that is not an error. example: a model's instance, a text, an object, or None without a body."""

    description: str
    example: Published | JsonObject | str | None
    status: int = 200
    types: tuple[str, ...] = (JSON,)
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. name: its operationId. request_examples: bodies, all of one model.

    errors: its possible failures, besides those of reading a body, of the key and a defect of ours.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: Tag
    responses: tuple[Response, ...]
    description: str = ""
    request_examples: Mapping[str, BaseModel] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[type[ServiceError], ...] = ()
