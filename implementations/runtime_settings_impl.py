"""The settings in force, as one snapshot: the environment's values with the operator's overrides."""

from collections.abc import Callable, Mapping

import structlog
from pydantic import JsonValue

from api_models import AdminAction, SettingReport, SettingSource, SettingsResponse
from config import Settings, settings_table
from exceptions import InvalidQueryError, StaleVersionError
from implementations.steering.overrides import NAME, OverridesError, changeable_settings, overridden, shown
from implementations.steering.own_secrets import holds_secret, secrets_of
from implementations.steering.shared_values import Document, Edition, SharedValues, Values, changed_names
from implementations.steering.snapshot import snapshot_of
from metrics import REQUEST, SETTINGS, STORED, Metrics
from protocols import Administrator, AuditProtocol, CurrentSettings

log = structlog.get_logger("steering")


class RuntimeSettingsImpl:
    """document: None without Redis. on_log_level: called with a changed level.

    Stored values that do not fit, because another version of the service wrote them, are ignored but kept in Redis.
    """

    def __init__(
        self,
        environment: Settings,
        *,
        document: Document | None,
        audit: AuditProtocol,
        metrics: Metrics,
        on_log_level: Callable[[str], None],
    ) -> None:
        self._environment = environment
        self._audit = audit
        self._metrics = metrics
        self._on_log_level = on_log_level
        self._secrets = secrets_of(environment)
        self._in_force = environment
        self._overrides: Values = {}  # those in force: what does not fit is left out
        self._current = snapshot_of(environment)
        metrics.introduce_models(self._current.models, defaults=self._current.default_models)
        self._left_out = 0
        self._count_flaw = metrics.config_reload_errors.of(STORED).inc
        self._shared = SharedValues(SETTINGS, document, take=self._take, on_flaw=self._count_flaw)
        metrics.stored_left_out.of(SETTINGS).set_function(lambda: self._left_out + self._shared.is_unreadable)

    def current(self) -> CurrentSettings:
        """The snapshot in force now; snapshots taken earlier stay unchanged."""
        return self._current

    async def poll(self) -> None:
        """Apply changes made through other replicas."""
        await self._shared.poll()

    async def report(self) -> SettingsResponse:
        """Every setting as in force, after reading Redis."""
        await self.poll()
        return self._report()

    async def change(
        self, changes: Mapping[str, object], *, by: Administrator, matches: Callable[[int], bool]
    ) -> SettingsResponse:
        """Apply all changes or none. Raises InvalidQueryError, StaleVersionError, ServiceOverloadedError."""

        def changed(overrides: Values) -> Values:
            fits = self._checked(changes)
            return {**overrides, **{name: shown(changeable_settings()[name], fits) for name in changes}}

        return await self._update(changed, by, matches)

    async def withdraw(
        self, name: str | None, *, by: Administrator, matches: Callable[[int], bool]
    ) -> SettingsResponse:
        """Restore the environment's value; of every setting if name is None. Raises the same errors as `change`.

        What another version stored can be removed although this one does not know it.
        """

        def withdrawn(overrides: Values) -> Values:
            if name is None:
                return {}
            if name not in overrides.keys() | changeable_settings():
                self._checked({name: None})  # which raises, and says what is wrong with it
            return {other: kept for other, kept in overrides.items() if other != name}

        return await self._update(withdrawn, by, matches)

    async def _update(
        self, update: Callable[[Values], Values], by: Administrator, matches: Callable[[int], bool]
    ) -> SettingsResponse:
        """Apply what update makes of the latest overrides, and audit what it changed."""

        def updated(latest: Edition) -> Values:
            if not matches(latest.version):
                raise StaleVersionError("read the settings again; If-Match names another version")
            return update(latest.values)

        await self._shared.change(updated, then=lambda old, new: self._audit_changes(old, new, by))
        return self._report()

    def _checked(self, changes: Mapping[str, object]) -> Settings:
        """Those in force with these changes. Raises InvalidQueryError, which names what is wrong but shows no value."""
        try:
            fits = overridden(self._environment, {**self._overrides, **changes})
        except OverridesError as error:
            self._metrics.config_reload_errors.of(REQUEST).inc()
            raise InvalidQueryError(str(error)) from None
        if holds_secret(changes, self._secrets):
            self._metrics.config_reload_errors.of(REQUEST).inc()
            raise InvalidQueryError("a value contains one of the service's own secrets, which others could then read")
        return fits

    def _take(self, values: Values) -> None:
        """Apply the values that fit."""
        before = self._current.log_level
        self._overrides, self._in_force = self._fitting(dict(values))
        self._left_out = sum(self._overrides.get(name, ...) != value for name, value in values.items())
        self._current = snapshot_of(self._in_force)
        self._metrics.introduce_models(self._current.models, defaults=self._current.default_models)
        if self._current.log_level != before:
            self._on_log_level(self._current.log_level)

    def _fitting(self, values: dict[str, JsonValue]) -> tuple[Values, Settings]:
        """The values that fit together, without the others; if no single one is at fault, keep those in force."""
        while True:
            try:
                return values, overridden(self._environment, values)
            except OverridesError as error:
                kept = {name: value for name, value in values.items() if name not in error.complaints}
                self._count_flaw()
                log.warning("stored_settings_left_out", names=sorted(error.complaints))
                if len(kept) == len(values):
                    return self._overrides, self._in_force
                values = kept

    def _audit_changes(self, old: Values, new: Values, by: Administrator) -> None:
        """One audit record for each override that changed; without the value of one that is unknown here."""
        for name in sorted(filter(NAME.fullmatch, old.keys() - new.keys() - changeable_settings().keys())):
            self._audit.record(by, AdminAction.SETTING_WITHDRAWN, name, old=None, new=None)
        changed = changed_names(old, new)
        for name, setting in changeable_settings().items():
            if name not in changed:
                continue
            own = shown(setting, self._environment)
            action = AdminAction.SETTING_CHANGED if name in new else AdminAction.SETTING_WITHDRAWN
            self._audit.record(by, action, name, old=old.get(name, own), new=new.get(name, own))

    def _report(self) -> SettingsResponse:
        return SettingsResponse(
            version=self._shared.version,
            scope=self._shared.scope,
            settings=[
                SettingReport(
                    name=setting.name,
                    value=shown(setting, self._in_force),
                    environment_value=shown(setting, self._environment),
                    source=SettingSource.OPERATOR if setting.name in self._overrides else SettingSource.ENVIRONMENT,
                    changeable=setting.changeable,
                )
                for setting in settings_table()
            ],
        )
