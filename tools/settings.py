"""Shows every setting as `make run` finds it, with its origin; writes or checks .env.example and docs/settings.md."""

import argparse
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import Literal, get_args, get_origin

import orjson
from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from api_models import ProviderName
from config import Settings, settings_table
from environment import MASK, ConfigurationError, Setting
from tools.generated import renew, replaced
from tools.run import layers, run_environment

PAGE = Path("docs/settings.md")
ENV_EXAMPLE = Path(".env.example")


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.settings", description=__doc__)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--write", action="store_true", help="write .env.example and docs/settings.md")
    either.add_argument("--check", action="store_true", help="fail when they are out of date")
    wishes = parser.parse_args()
    if wishes.write or wishes.check:
        return renew({PAGE: page_with_tables(PAGE.read_text()), ENV_EXAMPLE: env_example()}, write=wishes.write)
    set_by = {name: who for who, layer in layers().items() for name in layer}
    os.environ.update(run_environment())
    try:
        print("\n".join(effective(Settings.from_environment(), set_by)))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def effective(settings: Settings, set_by: Mapping[str, str]) -> Iterator[str]:
    """One line per setting: variable, value, origin, meaning; secrets are masked. set_by: who set each variable."""
    for setting in settings_table():
        variable = setting.variable_in_force()
        origin = "default" if variable is None else set_by[variable]
        if variable not in {None, setting.variable}:
            origin += f", {variable}"
        yield f"{setting.variable:<60} {shown(setting.value_in(settings)):<28} {origin:<44} {setting.info.description}"


def shown(value: object) -> str:
    """The value as it would be written in the environment; none is a dash, a secret masked."""
    if isinstance(value, SecretStr):
        return MASK
    plain = to_jsonable_python(value, exclude_none=True)
    if plain is None:
        return "-"
    if isinstance(plain, list) and not any(isinstance(item, dict) for item in plain):
        return ",".join(map(shown, plain))
    if isinstance(plain, float):
        return repr(plain).removesuffix(".0")
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()


def markdown_tables() -> str:
    """The tables of docs/settings.md, one for each group of settings under what the group says of itself."""
    return "\n".join(_table(group, rows) for group, rows in groupby(settings_table(), key=lambda row: row.group))


def _table(group: str, rows: Iterable[Setting]) -> str:
    says = inspect.getdoc(Settings.model_fields[group].annotation) or group
    lines = [f"\n## {says.partition('.')[0]}\n", "| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{row.variable}` | {_default(row)} | {_meaning(row)} |" for row in rows]
    return "\n".join(lines)


def env_example() -> str:
    """A commented-out line for each setting."""
    head = "# Read by `make run` only. Uncomment what you change; `make settings` shows the values in force.\n"
    return (
        head
        + "\n".join(
            f"\n# {_meaning(row)}\n#{row.variable}={'' if row.info.default is None else shown(row.info.default)}"
            for row in settings_table()
        )
        + "\n"
    )


def _default(row: Setting) -> str:
    return "none" if row.info.default in (None, (), "") else f"`{shown(row.info.default)}`"


def _meaning(row: Setting) -> str:
    meaning, words = row.info.description or "", [f"`{word}`" for word in _words(row.info.annotation)]
    if not all(word in meaning for word in words):
        meaning += f"; {'any' if row.is_list else 'one'} of {', '.join(words)}"
    also = [f"`{name}`" for name in row.bare]
    if row.is_secret:
        also.append("a `_FILE` twin of each" if row.bare else "its `_FILE` twin")
    steered = " (changeable at run time)" if row.changeable else ""
    return meaning + (f"; also {', '.join(also)}" if also else "") + steered


def _words(annotation: object) -> tuple[str, ...]:
    """The values of a closed set, a list of such or None; without the mock, which no setting may name."""
    origin = get_origin(annotation)
    if origin is Literal:
        return get_args(annotation)
    if origin in {tuple, UnionType}:
        return tuple(word for part in get_args(annotation) for word in _words(part))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return tuple(word for word in annotation if word is not ProviderName.MOCK)
    return ()


def page_with_tables(page: str) -> str:
    """The page with fresh tables between its markers."""
    return replaced(page, "settings", markdown_tables())


if __name__ == "__main__":
    sys.exit(main())
