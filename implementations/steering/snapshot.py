"""The part of the settings that a request needs, as an immutable snapshot."""

from config import Settings
from protocols import CostRules, CurrentSettings, MockKnobs


def snapshot_of(settings: Settings) -> CurrentSettings:
    """The snapshot of these settings."""
    groups = settings.provider_groups()
    order = settings.selection.priority_order
    return CurrentSettings(
        selection_strategy=settings.selection.strategy,
        routing_rules=settings.selection.routing_rules,
        priority_order=order,
        default_provider=settings.selection.default_provider or order[0],
        enabled_providers=frozenset(name for name, group in groups.items() if group.enabled),
        default_models={name: group.default_model for name, group in groups.items()},
        default_max_tokens=settings.judging.default_max_tokens,
        default_temperature=settings.judging.default_temperature,
        request_timeout_s=settings.judging.request_timeout_s,
        attempt_timeout_s=settings.judging.attempt_timeout_s,
        cache_enabled=settings.cache.enabled,
        cache_ttl_s=settings.cache.ttl_s,
        log_level=settings.service.log_level,
        mock=_mock_knobs(settings) if settings.judging.use_mock else None,
        costs=CostRules(
            limit_usd_per_day=settings.cost.limit_usd_per_day,
            limit_usd_per_month=settings.cost.limit_usd_per_month,
            alert_threshold_usd=settings.cost.alert_threshold_usd,
            alert_levels=settings.cost.alert_levels,
            unknown_price=settings.cost.unknown_price,
            unknown_ceiling_usd=settings.cost.unknown_ceiling_usd,
        ),
    )


def _mock_knobs(settings: Settings) -> MockKnobs:
    return MockKnobs(
        seed=settings.mock.seed,
        error_rate=settings.mock.error_rate,
        latency_ms=settings.mock.latency_ms,
        latency_jitter_ms=settings.mock.latency_jitter_ms,
        position_bias=settings.mock.position_bias,
    )
