"""What Prometheus' own tool says of a running service's metrics and of the dashboard's expressions."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.service_process import mocked, service
from tests.monitoring_files import DASHBOARD, panel_expressions

PROMTOOL = shutil.which("promtool") or "promtool is missing"


def promtool(*arguments: str, given: bytes = b"") -> str:
    """What it complains about; nothing when all is well."""
    command = [PROMTOOL, *arguments]
    ended = subprocess.run(command, input=given, check=False, capture_output=True, timeout=30)
    return "" if ended.returncode == 0 else (ended.stdout + ended.stderr).decode()


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with service(tmp_path_factory.mktemp("service"), mocked()) as running:
        assert running.compare().status == 200
        assert running.compare(essay_a="").status == 400
        return running.ask("/metrics").text.encode()


def test_the_metrics_of_a_running_service_are_as_they_should_be(scrape: bytes) -> None:
    assert promtool("check", "metrics", given=scrape) == ""


def test_a_metric_that_is_not_would_be_found(scrape: bytes) -> None:
    assert "total" in promtool("check", "metrics", given=scrape + b"# HELP bad Bad.\n# TYPE bad counter\nbad 1\n")


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    expressions = [*panel_expressions(), ("Alerts", DASHBOARD["annotations"]["list"][0]["expr"])]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, (_, expression) in enumerate(expressions)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert promtool("check", "rules", str(file)) == ""


def test_an_expression_that_is_none_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": [{"record": "a", "expr": "sum by (("}]}]}))

    assert "could not parse expression" in promtool("check", "rules", str(file))


def test_the_panel_of_circuits_shows_no_provider_that_nobody_may_ask(tmp_path: Path) -> None:
    (expression,) = (one for title, one in panel_expressions() if title == "State")
    shown = [(1, 0, "never-usable"), (1, 1, "open"), (0, 1, "closed")]
    series = [
        {"series": f'llm_provider_{name}{{instance="a", provider="{provider}"}}', "values": str(value)}
        for state, usable, provider in shown
        for name, value in (("circuit_breaker_state", state), ("usable_providers", usable))
    ]
    samples = [{"labels": f'{{provider="{provider}"}}', "value": state} for state, usable, provider in shown if usable]
    question = {"expr": expression, "eval_time": "0m", "exp_samples": samples}
    file = tmp_path / "panel_test.yml"
    file.write_text(yaml.safe_dump({"tests": [{"input_series": series, "promql_expr_test": [question]}]}))

    assert promtool("test", "rules", str(file)) == ""
