"""The operator's overrides of environment settings: by name, validated by the same fields, all or none."""

import re
from collections.abc import Mapping
from itertools import islice

from pydantic import JsonValue, ValidationError
from pydantic_core import to_jsonable_python

from api_models import RoutingRule
from config import Settings, settings_table
from environment import MASK, NO_SUCH_SETTING, Setting, Wrong, expected_in, no_such_setting

NAME = re.compile(r"[a-z0-9_]{1,64}")
MOST_NAMED = 5  # in one message


class OverridesError(Exception):
    """complaints: what is wrong, by setting name; never a value."""

    def __init__(self, complaints: Mapping[str, str]) -> None:
        named = [f"{name}: {message}" for name, message in islice(complaints.items(), MOST_NAMED)]
        super().__init__("; ".join(named if len(complaints) <= MOST_NAMED else [*named, "and more"]))
        self.complaints = complaints


def changeable_settings() -> Mapping[str, Setting]:
    """The settings that can change at runtime, by name."""
    return {setting.name: setting for setting in settings_table() if setting.changeable}


def overridden(environment: Settings, overrides: Mapping[str, object]) -> Settings:
    """The environment's settings with these overrides. Raises OverridesError."""
    table = changeable_settings()
    refused = [name for name in overrides if name not in table]
    if refused:
        # To find what was meant instead takes long, and there may be thousands.
        others = {name: NO_SUCH_SETTING for name in refused[MOST_NAMED:] if NAME.fullmatch(name)}
        raise OverridesError(dict(map(_refusal, refused[:MOST_NAMED])) | others)
    groups: dict[str, dict[str, object]] = {}
    for name, value in overrides.items():
        setting = table[name]
        group = groups.setdefault(setting.group, dict(getattr(environment, setting.group)))
        group[setting.field] = _of_json_type(setting, value)
    try:
        return environment.with_groups(groups)
    except ValidationError as error:
        raise OverridesError(_complaints(error)) from None


def shown(setting: Setting, settings: Settings) -> JsonValue:
    """The value as JSON; a secret only as a mask if it is set."""
    value = setting.value_in(settings)
    if setting.is_secret:
        return None if value is None else MASK
    rendered: JsonValue = to_jsonable_python(value, exclude_none=True)
    return rendered


def _of_json_type(setting: Setting, value: object) -> object:
    """The value, rejected if the fields would accept it only because they also parse environment text."""
    if setting.is_list:
        return [_part(setting, item) for item in value] if isinstance(value, list) else value
    return _part(setting, value)


def _part(setting: Setting, value: object) -> object:
    if setting.is_flag:
        return value if isinstance(value, bool) else Wrong("must be true or false")
    if isinstance(value, bool):
        return Wrong("must not be true or false")
    return Wrong("must be a number") if setting.is_number and isinstance(value, str) else value


def _refusal(name: str) -> tuple[str, str]:
    """The name, quoted only if it could be that of a setting, and why it is refused."""
    if not NAME.fullmatch(name):
        return "a name in the body", NO_SUCH_SETTING
    if any(name == setting.name for setting in settings_table()):
        return name, "does not change while the service runs"
    return name, no_such_setting(name, changeable_settings())


def _complaints(error: ValidationError) -> Mapping[str, str]:
    """What is expected, by setting; of the path only indexes and rule fields are shown, as other steps are input."""
    names = {(setting.group, setting.field): setting.name for setting in settings_table()}
    messages: dict[str, str] = {}
    for mistake in error.errors(include_url=False, include_context=False):
        group, field, *path = (*map(str, mistake["loc"]), "", "")
        steps = ".".join(step for step in path if step.isdecimal() or step in RoutingRule.model_fields)
        message = expected_in(mistake)
        messages.setdefault(names.get((group, field), group), f"{steps}: {message}" if steps else message)
    return messages
