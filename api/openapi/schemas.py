"""The JSON Schemas of the bodies as OpenAPI components, generated from the models."""

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from api_models import WITHOUT_NUL, ComparisonResponse, ErrorBody, JsonObject

Published = BaseModel | ComparisonResponse

PLACE = "#/components/schemas/"
ANY_JSON: JsonObject = {"$ref": f"{PLACE}JsonValue"}
ANY_NAMES: JsonObject = {"propertyNames": {"pattern": WITHOUT_NUL}}
ANY_MEMBERS: JsonObject = {**ANY_NAMES, "additionalProperties": ANY_JSON}
# Generators do not read it, so that a client's compiler sees a misspelt name, which the service would ignore.
UNKNOWN_FIELDS: JsonObject = {**ANY_NAMES, "unevaluatedProperties": ANY_JSON}
# Neither a union nor a type: generators of clients drop a union that contains itself, with whatever refers to it, and
# take what has members for an object. Nor is an array named, which linters want to hold something.
JSON_VALUE: JsonObject = {
    "description": "Any JSON without NUL characters, integers beyond 64 bits and more than 64 levels.",
    "if": {"not": {"type": ["boolean", "number", "null"]}},
    "then": {"pattern": WITHOUT_NUL, "items": ANY_JSON, **ANY_MEMBERS},
}


class _AsPublished(GenerateJsonSchema):
    """Omits titles, which repeat names, describes `Any` as what strict parsing accepts, and tells a number's size.

    Generators of clients take a number of no format for one of 32 bits, and may take a field with a default for one
    that is always sent. A default of null says nothing more than `optional` and is omitted; without another one they
    would take the field for one that may be null.
    """

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002  the parent's signature
        return False

    def any_schema(self, schema: core_schema.AnySchema) -> JsonSchemaValue:  # noqa: ARG002  the parent's signature
        return dict(ANY_JSON)

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {**super().int_schema(schema), "format": "int64"}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {**super().float_schema(schema), "format": "double"}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", schema) is None:
            del described["default"]
        return described

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        if self.mode == "validation" and described.get("additionalProperties") is not False:
            described = {**UNKNOWN_FIELDS, **described}
        return described

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        described = super().dict_schema(schema)
        return described | ANY_MEMBERS if described.get("additionalProperties") == ANY_JSON else described


def schemas(requests: Iterable[type[Published]], responses: Iterable[type[Published]]) -> JsonObject:
    """By name, in alphabetical order; requests as they are validated, responses as they are serialized."""
    wanted = [*_in_mode("validation", requests), *_in_mode("serialization", (*responses, ErrorBody))]
    _, found = TypeAdapter.json_schemas(wanted, ref_template=f"{PLACE}{{model}}", schema_generator=_AsPublished)
    for schema in found["$defs"].values():
        schema.pop("title", None)
    return dict(sorted({**found["$defs"], "JsonValue": JSON_VALUE}.items()))


def reference(model: type[Published | StrEnum]) -> JsonObject:
    """A reference to its schema; to an enum's where a body has one of it."""
    return {"$ref": f"{PLACE}{model.__name__}"}


def as_json(body: Published, *, as_sent: bool = False) -> JsonObject:
    """The JSON on the wire; as_sent: without the fields not given."""
    example: JsonObject = _adapter(type(body)).dump_python(body, mode="json", exclude_unset=as_sent)
    return example


def _in_mode(
    mode: JsonSchemaMode, kinds: Iterable[type[Published]]
) -> list[tuple[str, JsonSchemaMode, TypeAdapter[Published]]]:
    return [(kind.__name__, mode, _adapter(kind)) for kind in dict.fromkeys(kinds)]


def _adapter(kind: type[Published]) -> TypeAdapter[Published]:
    """Cached: building one parses a dataclass's source for the docstrings of its fields."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


_adapters: dict[type, TypeAdapter[Published]] = {}
