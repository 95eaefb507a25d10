"""What the monitoring files say, read once for the tests: rules, panels, and the paragraphs of the runbook."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import yaml

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RUNBOOK = ROOT / "docs" / "runbooks.md"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARD: dict[str, Any] = orjson.loads((GRAFANA / "dashboards" / "llm-provider.json").read_bytes())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}
NAME = re.compile(r"\bllm_provider[a-z0-9_:]+\b")


def panel_expressions() -> Iterator[tuple[str, str]]:
    """Every panel's title and expression, as Grafana would send it."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            yield panel["title"], expression


def names_in(text: str) -> set[str]:
    """The series of ours that a text names, but those that rules record."""
    return set(NAME.findall(text)) - RECORDED


def series_of(exposition: str) -> set[str]:
    """The names that a scrape offers; a family whose labels are not known yet has only its line of type."""
    found: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found
