"""How a setting is declared, how it is read from the process environment, and what is said of a wrong one.

Precedence: prefixed, prefixed `_FILE`, bare, bare `_FILE`; a blank string counts as absent.
"""

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

PREFIX = "LLM_PROVIDER_SERVICE_"
FILE_SUFFIX = "_FILE"
MASK = "********"  # shown instead of a secret
NO_SUCH_SETTING = "there is no such setting"
# Where pydantic speaks of tuples, dictionaries and instances, by its error types.
IN_JSON = {
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "dict_type": "must be an object",
    "model_type": "must be an object",
}
MAX_SECRET_BYTES = 64 * 1024


class ConfigurationError(Exception):
    """The environment is invalid; the message names the variables and never contains a value."""


class Group(BaseModel):
    """The settings of one concern."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


# The result is used as a field's default, so its type must fit every field.
def setting(
    name: str, default: object, meaning: str, *, bare: tuple[str, ...] = (), changeable: bool = False, **bounds: Any
) -> Any:
    """A setting read from PREFIX + name, or from one of the bare names. changeable: at run time, by an operator."""
    extra: JsonDict = {"env": name, "bare": list(bare), "changeable": changeable}
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: the field, its environment variables, its meaning."""

    group: str
    field: str
    variable: str
    bare: tuple[str, ...]
    changeable: bool
    info: FieldInfo

    @property
    def name(self) -> str:
        """The name in the admin API: the variable without our prefix, in lower case."""
        return self.variable.removeprefix(PREFIX).lower()

    @property
    def is_flag(self) -> bool:
        """Whether its value is true or false."""
        return self.info.annotation is bool

    @property
    def is_number(self) -> bool:
        """Whether its value is a number, none, or a list of numbers."""
        return any(kind in (int, float) for kind in _kinds(self.info.annotation))

    @property
    def is_secret(self) -> bool:
        """Whether its value is never shown, and may come from a file."""
        return SecretStr in _kinds(self.info.annotation)

    @property
    def is_list(self) -> bool:
        """Whether its value is comma-separated or a JSON list."""
        return get_origin(self.info.annotation) is tuple

    @property
    def is_mapping(self) -> bool:
        """Whether its value is a JSON object."""
        return get_origin(self.info.annotation) is Mapping

    def value_in(self, settings: BaseModel) -> Any:
        """Its value in these settings."""
        return getattr(getattr(settings, self.group), self.field)

    def spellings(self) -> Iterator[str]:
        """The accepted variables, in order of precedence."""
        for names in ((self.variable,), self.bare):
            yield from names
            if self.is_secret:
                yield from (name + FILE_SUFFIX for name in names)

    def variable_in_force(self) -> str | None:
        """The variable of this environment that takes effect, or None when the default does."""
        return next((name for name in self.spellings() if os.environ.get(name, "").strip()), None)

    def file_in_force(self) -> Path | None:
        """The file that a secret is read from; None when it comes from elsewhere."""
        variable = self.variable_in_force()
        if not self.is_secret or variable is None or not variable.endswith(FILE_SUFFIX):
            return None
        return Path(os.environ[variable].strip())


def _kinds(annotation: object) -> Iterator[object]:
    """The types that its values, or their parts, may have."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def declared_in(settings: type[BaseModel]) -> Iterator[Setting]:
    """The table that the groups make, in their order."""
    for group, group_info in settings.model_fields.items():
        for name, info in type(group_info.default).model_fields.items():
            declared = info.json_schema_extra
            yield Setting(
                group=group,
                field=name,
                variable=f"{PREFIX}{declared['env']}",
                bare=tuple(declared["bare"]),
                changeable=declared["changeable"],
                info=info,
            )


@dataclass(frozen=True, slots=True)
class Wrong:
    """Placeholder for an invalid value. No field accepts it, so validation reports all mistakes together."""

    message: str


def known_variables(table: Iterable[Setting]) -> frozenset[str]:
    """All accepted environment variables."""
    return frozenset(name for setting in table for name in setting.spellings())


def values_found(table: Collection[Setting]) -> dict[str, Any]:
    """The values of the process environment, by group and field; an unknown variable appears under its own name."""
    found: dict[str, dict[str, object]] = {}
    for setting in table:
        variable = setting.variable_in_force()
        if variable is not None:
            found.setdefault(setting.group, {})[setting.field] = _value(setting, os.environ[variable].strip())
    return {**found, **_unknown(known_variables(table))}


def _unknown(known: Collection[str]) -> dict[str, Wrong]:
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    legible = (os.fsencode(name).decode(errors="backslashreplace") for name in unknown)
    return {name: Wrong(no_such_setting(name, known)) for name in legible}


def no_such_setting(name: str, known: Collection[str]) -> str:
    """The complaint about a name that is not among these."""
    spelt = {other.upper(): other for other in known}
    near = [spelt[other] for other in difflib.get_close_matches(name.upper(), spelt, n=1)]
    return NO_SUCH_SETTING + (f" (did you mean {near[0]}?)" if near else "")


def _value(setting: Setting, text: str) -> object:
    if not _is_utf_8(text):
        return Wrong("is not text in UTF-8")
    file = setting.file_in_force()
    if file is not None:
        return secret_in(file)
    if setting.is_list:
        return _list_items(text)
    return _json(text, "a JSON object") if setting.is_mapping else text


def _is_utf_8(text: str) -> bool:
    """Whether the variable held UTF-8: Python keeps other bytes as lone surrogates, which no encoder takes."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


class FileTooLargeError(ValueError):
    """An operator's file that is not read any further."""


def bounded_content(path: Path, most_bytes: int) -> bytes:
    """What the file holds. Raises OSError, or FileTooLargeError beyond the bound: a device never ends."""
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise FileTooLargeError(f"the file is larger than {most_bytes} bytes")
    return content


def secret_in(path: Path) -> str | Wrong:
    """The file's content, or what is wrong with it, which reveals neither its name nor its content."""
    try:
        content = bounded_content(path, MAX_SECRET_BYTES)
        return content.decode("utf-8-sig").strip() or Wrong("the file is empty")  # some editors write a byte order mark
    except FileTooLargeError as error:
        return Wrong(str(error))
    except (OSError, ValueError):
        return Wrong("the file cannot be read")


def _list_items(text: str) -> object:
    if not (text.lstrip().startswith("[") and text.rstrip().endswith("]")):  # an IPv6 address has brackets as well
        items = [item.strip() for item in text.split(",") if item.strip()]
        return items or Wrong("holds nothing but commas")  # `$A,$B` where neither is set
    return _json(text, "comma-separated or a JSON list")


def _json(text: str, expected: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return Wrong(f"is not {expected}")


def complaints(error: ValidationError, table: Iterable[Setting]) -> Iterator[str]:
    """One line per invalid variable: the name that was read, and what is expected of it."""
    rows = {(setting.group, setting.field): setting for setting in table}
    messages: dict[str, str] = {}
    for mistake in error.errors(include_url=False, include_context=False):
        group, field, *inside = (*map(str, mistake["loc"]), "")
        setting = rows.get((group, field))
        name = setting.variable_in_force() or setting.variable if setting else group
        message = expected_in(mistake)
        place = "" if setting is None or setting.is_secret else ".".join(filter(None, inside))
        messages.setdefault(name, f"{message} (at {place})" if place else message)
    return (f"{name}: {message}." for name, message in messages.items())


def expected_in(mistake: ErrorDetails) -> str:
    """What is expected where this mistake was made; nothing of what was given."""
    value = mistake["input"]
    if isinstance(value, Wrong):
        return value.message
    return IN_JSON.get(mistake["type"]) or mistake["msg"].removeprefix("Value error, ")
