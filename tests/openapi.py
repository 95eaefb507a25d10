"""What the published document says of one answer, and whether the answer is so."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no py.typed
import orjson

from api_models import JsonObject

PLACEHOLDER = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer; header names in lower case."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """The document, asked about answers and examples."""

    document: JsonObject

    def fits(self, answer: Answered) -> None:
        """Raise AssertionError or ValidationError when the answer is not among those that are described."""
        told = self._response(answer)
        missing = {
            name
            for name, header in told["headers"].items()
            if header["required"] and name.lower() not in answer.headers
        }
        assert not missing, f"{answer.method} {answer.path} {answer.status}: {missing} are promised"
        if "content" not in told:
            assert not answer.body
            return
        kind = answer.headers["content-type"].split(";")[0]
        assert kind in told["content"], f"{kind} is not described"
        if answer.method != "HEAD":
            body: Any = orjson.loads(answer.body) if kind == "application/json" else answer.body.decode()
            self.validate(body, told["content"][kind]["schema"])
            codes = {one["value"]["error_type"] for one in told["content"][kind].get("examples", {}).values()}
            assert not codes or body["error_type"] in codes, f"{answer.status} is not described with that error_type"

    def validate(self, value: object, schema: JsonObject) -> None:
        """Raise jsonschema.ValidationError."""
        whole = {**schema, "components": self.document["components"]}
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(whole, format_checker=checker).validate(value)

    def resolved(self, part: JsonObject) -> JsonObject:
        """The part itself, or what it refers to."""
        found: Any = self.document
        if "$ref" not in part:
            return part
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return dict(found)

    def operations(self) -> Iterable[tuple[str, str, JsonObject]]:
        """Each with its method and path."""
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield method.upper(), path, operation

    def _response(self, answer: Answered) -> JsonObject:
        """As described for this operation; else as for any path without a route, or for a method without one."""
        item = self._item(answer.path.split("?")[0])
        method = "get" if answer.method == "HEAD" else answer.method.lower()
        if item is None or method not in item:
            assert answer.status == (404 if item is None else 405), f"{answer.path} is not described"
            return dict(self.document["components"]["responses"][str(answer.status)])
        responses = item[method]["responses"]
        assert str(answer.status) in responses, f"{answer.method} {answer.path} {answer.status} is not described"
        return self.resolved(responses[str(answer.status)])

    def _item(self, path: str) -> JsonObject | None:
        for template, item in self.document["paths"].items():
            pattern = "[^/]+".join(map(re.escape, PLACEHOLDER.split(template)))
            if re.fullmatch(pattern, path):
                return dict(item)
        return None
