"""The JSON Schemas of the bodies, made from the pydantic models as OpenAPI's components."""

from collections.abc import Iterable

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from api_models import LARGEST_INTEGER, SMALLEST_INTEGER, WITHOUT_NUL, ComparisonResponse, ErrorBody, JsonObject

Published = BaseModel | ComparisonResponse

PLACE = "#/components/schemas/"
ANY_JSON: JsonObject = {"$ref": f"{PLACE}JsonValue"}
ANY_MEMBERS: JsonObject = {"propertyNames": {"pattern": WITHOUT_NUL}, "additionalProperties": ANY_JSON}
JSON_VALUE: JsonObject = {
    "description": "Any JSON without NUL characters, integers beyond 64 bits and more than 64 levels.",
    "anyOf": [
        {"type": ["null", "boolean"]},
        {"type": "string", "pattern": WITHOUT_NUL},
        {"type": "integer", "minimum": SMALLEST_INTEGER, "maximum": LARGEST_INTEGER},
        {"type": "number"},
        {"type": "array", "items": ANY_JSON},
        {"type": "object", **ANY_MEMBERS},
    ],
}


class _AsPublished(GenerateJsonSchema):
    """Leaves out titles, which repeat names, and says that `Any` is what our strict reading lets through."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002  the parent's form
        return False

    def any_schema(self, schema: core_schema.AnySchema) -> JsonSchemaValue:  # noqa: ARG002  the parent's form
        return dict(ANY_JSON)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        described.pop("title", None)
        if self.mode == "validation" and described.get("additionalProperties") is not False:
            described = {**ANY_MEMBERS, **described}
        return described

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        described = super().dict_schema(schema)
        return described | ANY_MEMBERS if described.get("additionalProperties") == ANY_JSON else described

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        described = super().enum_schema(schema)
        described.pop("title", None)
        return described


def schemas(asked: Iterable[type[Published]], answered: Iterable[type[Published]]) -> JsonObject:
    """By name, in alphabetical order; what is sent is described as it is validated, what is answered as it is told."""
    wanted = [*_in_mode("validation", asked), *_in_mode("serialization", (*answered, ErrorBody))]
    _, found = TypeAdapter.json_schemas(wanted, ref_template=f"{PLACE}{{model}}", schema_generator=_AsPublished)
    return dict(sorted({**found["$defs"], "JsonValue": JSON_VALUE}.items()))


def reference(model: type[Published]) -> JsonObject:
    """Where its schema stands."""
    return {"$ref": f"{PLACE}{model.__name__}"}


def as_json(body: Published, *, as_sent: bool = False) -> JsonObject:
    """What goes over the wire; as_sent: without what is not given."""
    told: JsonObject = _adapter(type(body)).dump_python(body, mode="json", exclude_unset=as_sent)
    return told


def _in_mode(
    mode: JsonSchemaMode, kinds: Iterable[type[Published]]
) -> list[tuple[str, JsonSchemaMode, TypeAdapter[Published]]]:
    return [(kind.__name__, mode, _adapter(kind)) for kind in dict.fromkeys(kinds)]


def _adapter(kind: type[Published]) -> TypeAdapter[Published]:
    """Made once: it reads the source of a dataclass for the words that stand under its fields."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


_adapters: dict[type, TypeAdapter[Published]] = {}
