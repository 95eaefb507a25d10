"""Run-time settings for administrators: what is in force, and what can be changed without a deployment."""

from collections.abc import Coroutine
from typing import Annotated, Any

from dishka import FromDishka
from pydantic import BaseModel, ConfigDict, Field, create_model
from quart import Blueprint, Response
from quart_dishka import inject

from api.admin_requests import administrator, check, json_object, meant_version, run_to_completion
from api.response_rendering import json_answer
from api_models import SettingsResponse
from config import settings_table
from environment import Setting
from protocols import AdminAccessProtocol, SettingsSteeringProtocol

blueprint = Blueprint("admin_settings", __name__, url_prefix="/api/v1/admin/settings")


def _optional(setting: Setting) -> Any:
    """Omitted fields do not change, so no default is documented."""
    kind: Any = setting.info.annotation
    described = Field(
        description=setting.info.description, json_schema_extra=lambda schema: schema.pop("default", None)
    )
    return (Annotated[kind, *setting.info.metadata, described], None)


# The body of PATCH as published in the OpenAPI document, derived from the table of settings.
SettingsChange: type[BaseModel] = create_model(
    "SettingsChange",
    __config__=ConfigDict(extra="forbid"),
    __doc__="PATCH /api/v1/admin/settings: run-time settings to change; omitted ones stay as they are.",
    **{setting.name: _optional(setting) for setting in settings_table() if setting.changeable},
)


@blueprint.get("")
@inject
async def report(access: FromDishka[AdminAccessProtocol], steering: FromDishka[SettingsSteeringProtocol]) -> Response:
    """Every setting in force."""
    check(access)
    return await _versioned(steering.report())


@blueprint.patch("")
@inject
async def change(access: FromDishka[AdminAccessProtocol], steering: FromDishka[SettingsSteeringProtocol]) -> Response:
    """Override some of the environment's values, all or none."""
    check(access)
    changes = await json_object()
    return await _versioned(steering.change(changes, by=administrator(), matches=meant_version()))


@blueprint.delete("")
@inject
async def withdraw_all(
    access: FromDishka[AdminAccessProtocol], steering: FromDishka[SettingsSteeringProtocol]
) -> Response:
    """Reset all settings to the environment's values."""
    check(access)
    return await _versioned(steering.withdraw(None, by=administrator(), matches=meant_version()))


@blueprint.delete("/<name>")
@inject
async def withdraw(
    name: str, access: FromDishka[AdminAccessProtocol], steering: FromDishka[SettingsSteeringProtocol]
) -> Response:
    """Reset one setting to the environment's value."""
    check(access)
    return await _versioned(steering.withdraw(name, by=administrator(), matches=meant_version()))


async def _versioned(work: Coroutine[Any, Any, SettingsResponse]) -> Response:
    body = await run_to_completion(work)
    response = json_answer(body)
    response.set_etag(str(body.version))
    return response
