"""Writes or checks the generated parts of docs/api.md: the content of /openapi.json as tables."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from api.openapi import failures
from api.openapi.advice import ADVICE
from api.openapi.document import document
from api.openapi.operations import OPERATIONS
from api.openapi.schemas import reference
from api_models import ErrorBody, ErrorCode, JsonObject
from exceptions import DefectError, ServiceError
from tools import generated

PAGE = Path("docs/api.md")
FAR = 1 << 53


def main() -> int:
    """Return the exit code."""
    return generated.main(__doc__, lambda: {PAGE: page(PAGE.read_text())})


def page(text: str) -> str:
    """The page with fresh parts between their markers."""
    described = document([(row.method, row.path) for row in OPERATIONS])
    parts = {
        "operations": _operations(described),
        "headers": _headers(described),
        "errors": _errors(),
        "models": _models(described),
    }
    for name, lines in parts.items():
        text = generated.replaced(text, name, "\n".join(("", *lines, "")))
    return text


# --- Operations -------------------------------------------------------------------------------------------------------


def _operations(described: JsonObject) -> Iterator[str]:
    schemes = described["components"]["securitySchemes"]
    for tag in described["tags"]:
        yield f"### {tag['name']}\n\n{tag['description']}\n"
        for path, item in described["paths"].items():
            for method, operation in item.items():
                if tag["name"] in operation["tags"]:
                    yield "\n".join(_operation(method.upper(), path, operation, schemes))


def _operation(method: str, path: str, operation: JsonObject, schemes: JsonObject) -> Iterator[str]:
    yield f"#### `{method} {path}`\n\n{operation['summary']}. {operation.get('description', '')}".rstrip() + "\n"
    if operation.get("security"):
        (name,) = operation["security"][0]
        yield f"[Key](access.md): {schemes[name]['description']}\n"
    if "parameters" in operation:
        sent = operation["parameters"]
        parameters = [(f"`{one['name']}`", one["in"], _type(one["schema"]), one["description"]) for one in sent]
        yield _table(("parameter", "in", "type", "meaning"), parameters)
    if "requestBody" in operation:
        yield f"Body: {_type(operation['requestBody']['content']['application/json']['schema'])}.\n"
    responses = operation["responses"].items()
    rows = [(status, _answer(one)) for status, one in responses if status != str(DefectError.status)]
    yield _table(("status", "answer"), rows)


def _answer(response: JsonObject) -> str:
    content = next(iter(response.get("content", {}).values()), None)
    if content is None:
        return str(response["description"])
    if content["schema"] == reference(ErrorBody):
        codes = sorted({one["value"]["error_type"] for one in content["examples"].values()})
        return ", ".join(f"`{code}`" for code in codes)
    kinds = ", ".join(response["content"])
    return f"{response['description']} {_type(content['schema']) if '$ref' in content['schema'] else kinds}"


def _headers(described: JsonObject) -> Iterator[str]:
    responses = [
        response
        for item in described["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
        if "$ref" not in response
    ]
    headers = {
        name: header
        for response in (*responses, *described["components"]["responses"].values())
        for name, header in response["headers"].items()
    }
    rows = [(f"`{name}`", _type(header["schema"]), header["description"]) for name, header in headers.items()]
    yield _table(("header", "type", "meaning"), rows).rstrip()


# --- Errors -----------------------------------------------------------------------------------------------------------


def _errors() -> Iterator[str]:
    by_answer: dict[tuple[int, ErrorCode], list[type[ServiceError]]] = {}
    for kind in failures.EXAMPLES:
        by_answer.setdefault((kind.status, kind.code), []).append(kind)
    rows = [
        (str(status), f"`{code}`", " ".join(dict.fromkeys(kind.sentence for kind in kinds)), ADVICE[status, code])
        for (status, code), kinds in sorted(by_answer.items())
    ]
    yield _table(("status", "`error_type`", "what happened", "what to do"), rows).rstrip()


# --- Models -----------------------------------------------------------------------------------------------------------


def _models(described: JsonObject) -> Iterator[str]:
    for name, schema in described["components"]["schemas"].items():
        yield f"### {name}\n\n{schema.get('description', '')}\n"
        if "properties" in schema:
            needed = schema.get("required", [])
            rows = [
                (f"`{field}`" + ("" if field in needed else " (optional)"), _type(one), one.get("description", ""))
                for field, one in schema["properties"].items()
            ]
            yield _table(("field", "type", "meaning"), rows)
        elif "enum" in schema:
            yield ", ".join(f"`{word}`" for word in schema["enum"]) + "\n"


def _type(schema: JsonObject) -> str:
    """In words; a model as a link to its section."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if "$ref" in schema.get("additionalProperties", {}):
        return f"object of {_type(schema['additionalProperties'])}"
    return ", ".join([schema.get("type", "anything"), *_limits(schema)])


def _limits(schema: JsonObject) -> Iterator[str]:
    if "format" in schema and schema["type"] == "string":  # what holds everywhere says how large numbers are
        yield schema["format"]
    for name, words in {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}.items():
        if name in schema and abs(schema[name]) < FAR:
            yield f"{words} {schema[name]:g}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
