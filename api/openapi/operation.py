"""What one row of the table of operations is made of, and how OpenAPI writes parameters and headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel

from api_models import ComparisonResponse, JsonObject
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


class Key(StrEnum):
    """Whose key an operation needs."""

    CALLER = "caller"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What is sent beside the body; only a part of the path is always needed."""

    name: str
    where: Literal["path", "query", "header"]
    says: str
    schema: JsonObject
    example: object = None

    def described(self) -> JsonObject:
        """As OpenAPI has it."""
        told = {"name": self.name, "in": self.where, "required": self.where == "path", "description": self.says}
        example = {} if self.example is None else {"example": self.example}
        return {**told, "schema": self.schema, **example}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What comes back beside the body."""

    name: str
    says: str
    schema: JsonObject
    always: bool = True

    def described(self) -> JsonObject:
        """As OpenAPI has it."""
        return {"description": self.says, "required": self.always, "schema": self.schema}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered when nothing went wrong. example: a body of ours, another text or object, None for no body."""

    says: str
    example: BaseModel | ComparisonResponse | JsonObject | str | None
    status: int = 200
    types: tuple[str, ...] = (JSON,)
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. name: what generated clients call it. asked: examples of the body, of one model.

    errors: the failures that it answers with, beside a defect of ours. key: whose key it needs.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: Tag
    answers: tuple[Answer, ...]
    says: str = ""
    asked: Mapping[str, BaseModel] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[type[ServiceError], ...] = ()
    key: Key | None = None
