"""The operations of administrators, one row each, with an example of every body. They need the administrator's key."""

from datetime import UTC, datetime

from api.admin_settings import SettingsChange
from api.openapi import failures, parts
from api.openapi.bodies import ANTHROPIC, CORRELATION_ID
from api.openapi.operation import Answer, Key, Operation, Parameter, Tag
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
from exceptions import InvalidQueryError, StaleVersionError

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
    says="The ETag that the change is meant for; another one is refused with 412.",
    schema=parts.TEXT,
    example='"7"',
)
NAME_IN = Parameter(
    name="name",
    where="path",
    says="A setting that may change at run time.",
    schema=parts.TEXT,
    example="cost_limit_usd_per_day",
)
SETTINGS_ANSWER = Answer(says="What is in force now.", example=IN_FORCE, headers=(parts.ETAG,))
CHANGING = (*failures.STEERING, StaleVersionError)

ADMINISTRATION: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=SETTINGS,
        name="show_settings",
        summary="Every setting as it is in force",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        answers=(SETTINGS_ANSWER,),
        errors=failures.ADMIN,
    ),
    Operation(
        method="PATCH",
        path=SETTINGS,
        name="change_settings",
        summary="Change settings in all replicas",
        says="All or none, validated as a whole. What is not sent stays as it is; requests under way keep theirs.",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        asked={"A limit": SettingsChange(cost_limit_usd_per_day=50.0)},
        parameters=(IF_MATCH,),
        answers=(SETTINGS_ANSWER,),
        errors=CHANGING,
    ),
    Operation(
        method="DELETE",
        path=SETTINGS,
        name="withdraw_settings",
        summary="Return to the environment's values",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        parameters=(IF_MATCH,),
        answers=(SETTINGS_ANSWER,),
        errors=CHANGING,
    ),
    Operation(
        method="DELETE",
        path=f"{SETTINGS}/{{name}}",
        name="withdraw_setting",
        summary="Return one setting to the environment's value",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        parameters=(NAME_IN, IF_MATCH),
        answers=(SETTINGS_ANSWER,),
        errors=CHANGING,
    ),
    Operation(
        method="GET",
        path=CIRCUITS,
        name="show_circuits",
        summary="Every circuit of this replica, and who holds it",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        answers=(Answer(says="One for each provider.", example=CircuitsResponse(circuits=[HELD])),),
        errors=failures.ADMIN,
    ),
    Operation(
        method="PUT",
        path=f"{CIRCUITS}/{{provider}}",
        name="hold_circuit",
        summary="Hold a circuit open or closed, in all replicas",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        asked={"For half an hour": CircuitOrder(state=ForcedState.OPEN, reason=REASON, for_s=1800.0)},
        parameters=(parts.PROVIDER_IN,),
        answers=(Answer(says="It is held.", example=HELD),),
        errors=failures.STEERING,
    ),
    Operation(
        method="DELETE",
        path=f"{CIRCUITS}/{{provider}}",
        name="reset_circuit",
        summary="Forget what was forced and what was counted",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        parameters=(parts.PROVIDER_IN,),
        answers=(Answer(says="Traffic decides again.", example=RESET),),
        errors=(*failures.STEERING, InvalidQueryError),
    ),
    Operation(
        method="POST",
        path="/api/v1/admin/cache/clear",
        name="clear_cache",
        summary="Forget every kept answer, in all replicas",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        answers=(
            Answer(says="It is forgotten.", example=CacheClearedResponse(cleared=True, everywhere=True, generation=3)),
        ),
        errors=failures.ADMIN,
    ),
    Operation(
        method="POST",
        path="/api/v1/admin/alerts/reset",
        name="reset_alerts",
        summary="Let alerts on spending be told again, if their marks are still passed",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        answers=(Answer(says="They may be.", example=AlertsResetResponse(reset=True, everywhere=True, forgotten=1)),),
        errors=failures.ADMIN,
    ),
    Operation(
        method="GET",
        path="/api/v1/admin/changes",
        name="list_changes",
        summary="The latest changes that this replica was asked for",
        tag=Tag.ADMINISTRATION,
        key=Key.ADMIN,
        answers=(Answer(says="The newest first, fifty at most.", example=ChangesResponse([CHANGED])),),
        errors=failures.ADMIN,
    ),
)
