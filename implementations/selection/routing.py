"""Which of the operator's rules a query meets: the first one decides whom to prefer when the caller names nobody."""

from collections.abc import Sequence

from api_models import RoutingRule
from protocols import ComparisonQuery


def rule_for(query: ComparisonQuery, rules: Sequence[RoutingRule]) -> RoutingRule | None:
    """The first rule all of whose conditions hold, or None."""
    return next((rule for rule in rules if _holds(rule, query)), None)


def _holds(rule: RoutingRule, query: ComparisonQuery) -> bool:
    return (
        all(query.metadata.get(name) == value for name, value in rule.metadata.items())
        and rule.user_id in {None, query.user_id}
        and (rule.min_characters or 0) <= query.size
        and (rule.max_characters is None or query.size <= rule.max_characters)
    )
