"""The admin operations, one row each, with an example of every body. They need the administrator's key."""

from datetime import UTC, datetime

from api.admin_settings import SettingsChange
from api.openapi import failures, parts
from api.openapi.bodies import ANTHROPIC, CORRELATION_ID
from api.openapi.operation import Operation, Parameter, Response, Tag
from api_models import (
    AdminAction,
    AdminChange,
    AlertsResetResponse,
    CacheClearedResponse,
    ChangesResponse,
    CircuitOrder,
    CircuitResponse,
    CircuitsResponse,
    CircuitState,
    ForcedState,
    SettingReport,
    SettingSource,
    SettingsResponse,
    UsageScope,
)
from exceptions import StaleVersionError

SETTINGS, CIRCUITS = "/api/v1/admin/settings", "/api/v1/admin/circuits"
REASON = "an outage at the vendor"

IN_FORCE = SettingsResponse(
    version=7,
    scope=UsageScope.FLEET,
    settings=[
        SettingReport(
            name="cost_limit_usd_per_day",
            value=50.0,
            environment_value=None,
            source=SettingSource.OPERATOR,
            changeable=True,
        )
    ],
)
HELD = CircuitResponse(
    provider=ANTHROPIC,
    circuit_breaker_state=CircuitState.OPEN,
    forced=True,
    reason=REASON,
    actor="admin@10.0.0.7",
    expires_in_s=1800.0,
    scope=UsageScope.FLEET,
)
RESET = HELD.model_copy(
    update={
        "circuit_breaker_state": CircuitState.CLOSED,
        "forced": False,
        "reason": None,
        "actor": None,
        "expires_in_s": None,
    }
)
CHANGED = AdminChange(
    at=datetime(2026, 11, 24, 12, 0, tzinfo=UTC),
    actor="admin@10.0.0.7",
    action=AdminAction.SETTING_CHANGED,
    field="cost_limit_usd_per_day",
    old=None,
    new=50.0,
    request_id=CORRELATION_ID,
)
IF_MATCH = Parameter(
    name="If-Match",
    where="header",
    description="The ETag of the version to change; 412 if it is no longer in force.",
    schema=parts.TEXT,
    example='"7"',
)
NAME_IN = Parameter(
    name="name",
    where="path",
    description="A setting that can be changed at run time.",
    schema={"type": "string", "enum": sorted(SettingsChange.model_fields)},
    example="cost_limit_usd_per_day",
)
SETTINGS_RESPONSE = Response(description="The settings in force.", example=IN_FORCE, headers=(parts.ETAG,))
CHANGING = (*failures.STEERING, StaleVersionError)

ADMINISTRATION: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=SETTINGS,
        name="show_settings",
        summary="List every setting in force",
        tag=Tag.ADMINISTRATION,
        responses=(SETTINGS_RESPONSE,),
    ),
    Operation(
        method="PATCH",
        path=SETTINGS,
        name="change_settings",
        summary="Change settings in all replicas",
        description="All or none, validated as a whole. Omitted settings stay as they are. Running comparisons keep "
        "the old values, except for cost limits and the log level, which apply at once.",
        tag=Tag.ADMINISTRATION,
        request_examples={"A limit": SettingsChange(cost_limit_usd_per_day=50.0)},
        parameters=(IF_MATCH,),
        responses=(SETTINGS_RESPONSE,),
        errors=CHANGING,
    ),
    Operation(
        method="DELETE",
        path=SETTINGS,
        name="withdraw_settings",
        summary="Reset all settings to the environment's values",
        tag=Tag.ADMINISTRATION,
        parameters=(IF_MATCH,),
        responses=(SETTINGS_RESPONSE,),
        errors=CHANGING,
    ),
    Operation(
        method="DELETE",
        path=f"{SETTINGS}/{{name}}",
        name="withdraw_setting",
        summary="Reset one setting to the environment's value",
        tag=Tag.ADMINISTRATION,
        parameters=(NAME_IN, IF_MATCH),
        responses=(SETTINGS_RESPONSE,),
        errors=CHANGING,
    ),
    Operation(
        method="GET",
        path=CIRCUITS,
        name="show_circuits",
        summary="List every circuit of this replica and, if it is held, by whom",
        tag=Tag.ADMINISTRATION,
        responses=(Response(description="One per provider.", example=CircuitsResponse(circuits=[HELD])),),
    ),
    Operation(
        method="PUT",
        path=f"{CIRCUITS}/{{provider}}",
        name="hold_circuit",
        summary="Hold a circuit open or closed, in all replicas",
        tag=Tag.ADMINISTRATION,
        request_examples={"For half an hour": CircuitOrder(state=ForcedState.OPEN, reason=REASON, for_s=1800.0)},
        parameters=(parts.PROVIDER_IN,),
        responses=(Response(description="The circuit is held.", example=HELD),),
        errors=failures.STEERING,
    ),
    Operation(
        method="DELETE",
        path=f"{CIRCUITS}/{{provider}}",
        name="reset_circuit",
        summary="Release a circuit, clear its counts and lift a throttle pause",
        tag=Tag.ADMINISTRATION,
        parameters=(parts.PROVIDER_IN,),
        responses=(Response(description="Traffic decides again.", example=RESET),),
        errors=failures.STEERING,
    ),
    Operation(
        method="POST",
        path="/api/v1/admin/cache/clear",
        name="clear_cache",
        summary="Clear the answer cache in all replicas",
        tag=Tag.ADMINISTRATION,
        responses=(
            Response(
                description="The cache is cleared.",
                example=CacheClearedResponse(cleared=True, everywhere=True, generation=3),
            ),
        ),
    ),
    Operation(
        method="POST",
        path="/api/v1/admin/alerts/reset",
        name="reset_alerts",
        summary="Let spending alerts be sent again if their thresholds are still passed",
        tag=Tag.ADMINISTRATION,
        responses=(
            Response(
                description="The alerts are reset.",
                example=AlertsResetResponse(reset=True, everywhere=True, forgotten=1),
            ),
        ),
    ),
    Operation(
        method="GET",
        path="/api/v1/admin/changes",
        name="list_changes",
        summary="List the latest changes made through this replica",
        tag=Tag.ADMINISTRATION,
        responses=(Response(description="Newest first, fifty at most.", example=ChangesResponse([CHANGED])),),
    ),
)
