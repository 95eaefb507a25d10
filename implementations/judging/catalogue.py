"""The model catalogue: what each model accepts, as data shipped beside this file plus the operator's corrections.

Both files map provider to model id to traits (the fields of `ModelTraits`); the id `*` stands for every model of that
provider that is not listed. The operator's entries override the shipped ones field by field.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from api_models import JsonObject, ModelId, ProviderName
from config import MIB
from environment import PREFIX, ConfigurationError, bounded_content
from protocols import ModelTraits

SHIPPED = Path(__file__).with_name("models.json")
ANY_MODEL = "*"
MOCK_MODEL = "mock-judge-1"
UNKNOWN_MODEL = ModelTraits()
MAX_FILE_BYTES = 4 * MIB
TRAITS = frozenset(trait.name for trait in fields(ModelTraits))

_DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")

Entries = Mapping[ProviderName, Mapping[str, ModelTraits]]
_RAW = TypeAdapter(dict[ProviderName, dict[Literal["*"] | ModelId, dict[str, Any]]])
_ENTRIES = TypeAdapter(dict[ProviderName, dict[str, ModelTraits]])


class ModelCatalogue:
    """Known model traits, by provider."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    @classmethod
    def load(cls, corrections: Path | None) -> Self:
        """The shipped catalogue, overridden by the operator's file. Raises ConfigurationError."""
        shipped = _RAW.validate_json(SHIPPED.read_bytes())
        try:
            given = {} if corrections is None else _RAW.validate_json(bounded_content(corrections, MAX_FILE_BYTES))
            return cls(_ENTRIES.validate_json(to_json(_laid_over(shipped, given)), strict=True))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{PREFIX}MODEL_CATALOG_PATH: {_complaint(error)}.") from None

    def traits(self, provider: ProviderName, model: str) -> ModelTraits:
        """The traits of a model; conservative for an unlisted one, unless its provider has a `*` entry.

        A trailing date in the name is ignored if the dated name is not listed.
        """
        known = self._entries.get(provider, {})
        return known.get(model) or known.get(_DATE.sub("", model)) or known.get(ANY_MODEL, UNKNOWN_MODEL)

    def models(self, provider: ProviderName) -> Mapping[str, ModelTraits]:
        """Every listed model of a provider, by id."""
        return {model: traits for model, traits in self._entries.get(provider, {}).items() if model != ANY_MODEL}


RawEntries = Mapping[ProviderName, Mapping[str, JsonObject]]


def _laid_over(shipped: RawEntries, given: RawEntries) -> JsonObject:
    """Shipped entries overridden by the given ones. Raises ValueError for an unknown trait."""
    for models in given.values():
        for model, traits in models.items():
            if unknown := set(traits) - TRAITS:
                raise ValueError(f"{model}: there is no such trait: {', '.join(sorted(unknown))}")
    return {
        provider: {
            model: {**shipped.get(provider, {}).get(model, {}), **given.get(provider, {}).get(model, {})}
            for model in {**shipped.get(provider, {}), **given.get(provider, {})}
        }
        for provider in ProviderName
    }


def _complaint(error: OSError | ValueError) -> str:
    """What is wrong with the operator's file, without quoting it."""
    if isinstance(error, OSError):
        return "the file cannot be read"
    if isinstance(error, ValidationError):
        first, *_ = error.errors(include_input=False, include_url=False, include_context=False)
        return (
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first["loc"] else "the file is not a JSON object"
        )
    return str(error)
