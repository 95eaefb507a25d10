"""Matches a query to the operator's routing rules: the first match is preferred if the caller names no provider."""

from collections.abc import Sequence

from api_models import RoutingRule
from protocols import ComparisonQuery


def rule_for(query: ComparisonQuery, rules: Sequence[RoutingRule]) -> RoutingRule | None:
    """The first rule whose conditions all hold, or None."""
    return next((rule for rule in rules if _holds(rule, query)), None)


def _holds(rule: RoutingRule, query: ComparisonQuery) -> bool:
    return (
        all(_is(query.metadata.get(name), value) for name, value in rule.metadata.items())
        and rule.user_id in {None, query.user_id}
        and (rule.min_characters or 0) <= query.characters
        and (rule.max_characters is None or query.characters <= rule.max_characters)
    )


def _is(told: object, wanted: object) -> bool:
    """Equal as JSON has it, where true is not 1."""
    return told == wanted and isinstance(told, bool) is isinstance(wanted, bool)
