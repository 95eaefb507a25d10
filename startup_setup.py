"""Builds the Quart application: routes, error handlers, Dishka, startup and shutdown."""

import asyncio
import ipaddress

import structlog
from dishka import AsyncContainer, Provider

from api import (
    admin_circuits,
    admin_routes,
    admin_settings,
    cache_routes,
    caller_gate,
    documentation_routes,
    error_rendering,
    health_routes,
    llm_routes,
    operations_routes,
    request_report,
    request_tracing,
    usage_routes,
)
from api.application import Application
from api_models import ProviderName
from config import SHORTEST_ADMIN_KEY, AdminSettings, ServiceSettings, Settings
from di import OperatorPolls, SharedState, create_container
from implementations.accounting.prices import FREE
from implementations.background.stop_signals import StopSignals
from implementations.background.supervisor import Supervisor
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.outbox import Outbox
from implementations.observability.log_writer import LINES
from implementations.observability.logging_setup import configure_logging
from implementations.resilience.admission import Admission
from metrics import Metrics
from protocols import (
    AdminAccessProtocol,
    AdmissionProtocol,
    CallerAccessProtocol,
    HistoryProtocol,
    LLMOrchestratorProtocol,
    LLMProviderSelectorProtocol,
    LLMProviderTesterProtocol,
    MemoryProtocol,
    RuntimeSettingsProtocol,
    TracerProtocol,
)

CLOSE_TIMEOUT_S = 5.0
SERVER_GRACE_S = 5  # for connections, after the drain

log = structlog.get_logger("service")


def create_app(settings: Settings, *overrides: Provider) -> Application:
    """The application, not yet started. overrides: for tests, Dishka providers that replace parts of it."""
    configure_logging(
        level=settings.service.log_level,
        service=settings.service.name,
        version=settings.service.version,
        as_json=settings.service.environment != "development",
    )
    app = Application("llm-provider-service")
    app.config.update(
        MAX_CONTENT_LENGTH=settings.service.max_request_bytes,
        BODY_TIMEOUT=settings.service.body_timeout_s,
        PROPAGATE_EXCEPTIONS=False,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    offered = [llm_routes, usage_routes, cache_routes, health_routes, operations_routes, documentation_routes]
    if settings.admin.key_in_force is not None:
        offered += [admin_routes, admin_settings, admin_circuits]
    for routes in offered:
        app.register_blueprint(routes.blueprint)
    documentation_routes.install(app)
    container = create_container(settings, *overrides)
    app.provide_from(container)
    _install_lifespan(app, container, settings)
    return app


def _install_lifespan(app: Application, container: AsyncContainer, settings: Settings) -> None:
    @app.before_serving
    async def start() -> None:
        try:
            await _start(app, container, settings)
        except BaseException:
            await container.close()
            raise

    @app.after_serving
    async def stop() -> None:
        await (await container.get(StopSignals)).unless_hurried(_close(container))
        log.info("service_stopped")


async def _start(app: Application, container: AsyncContainer, settings: Settings) -> None:
    await _build(app, container, settings)
    for poll in await container.get(OperatorPolls):  # operators' changes apply from the first request
        await poll()
    (await container.get(Supervisor)).start()
    (await container.get(StopSignals)).take_over()
    current = (await container.get(RuntimeSettingsProtocol)).current()
    usable = [
        status.name
        for status in (await container.get(LLMProviderSelectorProtocol)).statuses(current)
        if status.is_usable
    ]
    _announce(usable, settings.service, mocked=current.mock is not None)
    _log_admin_routes(settings.admin)
    _warn_of_open_doors(settings, is_limited=current.costs.has_limits, usable=usable)
    _warn_of_settings_without_effect(settings, usable)


async def _close(container: AsyncContainer) -> None:
    """Send pending events and close everything, each within its timeout."""
    await (await container.get(EventPublisherImpl)).publish_usage()
    await (await container.get(Outbox)).flush()
    prober = (await container.get(SharedState)).prober
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            if prober is not None:
                await prober.probe(enough=1)  # closing tells Redis what was spent, for the last time
            await container.close()
    except TimeoutError:
        log.error("close_timed_out")  # noqa: TRY400  a traceback into asyncio is useless


async def _build(app: Application, container: AsyncContainer, settings: Settings) -> None:
    """Build what only routes ask for and what surrounds requests, and what they need. No factory awaits anything."""
    for asked_by_routes in (LLMOrchestratorProtocol, LLMProviderTesterProtocol, AdminAccessProtocol):
        await container.get(asked_by_routes)
    LINES.on_drop = (await container.get(Metrics)).log_dropped.inc
    error_rendering.install(app, history=await container.get(HistoryProtocol))
    request_report.install(app, metrics=await container.get(Metrics), admission=await container.get(AdmissionProtocol))
    request_tracing.install(app, tracer=await container.get(TracerProtocol))
    app.memory = await container.get(MemoryProtocol)
    (await container.get(Admission)).on_close = app.close_idle
    caller_gate.install(
        app, access=await container.get(CallerAccessProtocol), trusted_proxies=settings.access.trusted_proxies
    )


def _announce(judges: list[ProviderName], service: ServiceSettings, *, mocked: bool) -> None:
    """Log in one line which providers judge and where to send requests."""
    write = log.warning if mocked or not judges else log.info
    write(
        "service_started",
        judges=", ".join(judges) or "none: no provider is enabled and configured",
        ask=f"POST http://{_reachable(service.host)}:{service.port}/api/v1/comparison",
        note="the mock judges: no verdict is real" if mocked else None,
    )


def _log_admin_routes(admin: AdminSettings) -> None:
    """Log that the admin routes are enabled but absent: without a key, or, as a warning, with one that is too short."""
    write = log.info if admin.api_key is None else log.warning
    if admin.enabled and admin.key_in_force is None:
        write("admin_routes_absent", needs=f"an ADMIN_API_KEY of {SHORTEST_ADMIN_KEY} characters or more")


def _warn_of_open_doors(settings: Settings, *, is_limited: bool, usable: list[ProviderName]) -> None:
    """Warn of what is convenient in development and a risk in production, and anywhere of keys that nobody needs."""
    access, in_production = settings.access, settings.service.environment == "production"
    if not access.asks_for_keys and (in_production or access.caller_keys is not None):
        log.warning("callers_not_authenticated", needs="AUTH_MODE=api_key, or a network that only callers reach")
    if in_production and settings.admin.key_in_force is not None and not access.admin_allowed_ips:
        log.warning("admin_from_everywhere", needs="ADMIN_ALLOWED_IPS")
    priced = {ProviderName(key.partition("/")[0]) for key in settings.models.price_overrides}
    if in_production and not is_limited and set(usable) - (FREE - priced):
        log.warning("spending_not_limited", needs="COST_LIMIT_USD_PER_DAY")


def _warn_of_settings_without_effect(settings: Settings, usable: list[ProviderName]) -> None:
    """Warn of events that stay here, a password that nobody gets, preferred providers that others stand in for."""
    events, cache, selection = settings.events, settings.cache, settings.selection
    if events.enabled and not events.kafka_servers and (events.spool_path or events.security_protocol != "PLAINTEXT"):
        log.warning("events_not_sent", needs="KAFKA_BOOTSTRAP_SERVERS")
    if cache.redis_sentinel_password and not (cache.redis and cache.redis.primary):
        log.warning("sentinel_password_not_used", needs="Sentinels in REDIS_URL")
    preferred = (selection.default_provider, *(rule.provider for rule in selection.routing_rules))
    absent = sorted({name for name in preferred if name is not None and name not in usable})
    if absent and not settings.judging.use_mock:
        log.warning("preferred_providers_not_usable", names=absent, needs="each to be enabled and configured")


def _reachable(host: str) -> str:
    """The host as written in a URL; a wildcard address becomes `localhost`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "localhost"
    return f"[{host}]" if isinstance(address, ipaddress.IPv6Address) else host
