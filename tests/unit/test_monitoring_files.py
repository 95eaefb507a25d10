"""Rules, dashboard and runbook belong together, and the compose file brings them to where they are read."""

import re

import pytest
import yaml

from api import health_warnings
from api_models import AttemptOutcome, DegradedMode, HoldReason
from implementations.shared_state.faults import Fault
from tests.markdown import anchors
from tests.monitoring_files import (
    ALERTS,
    DASHBOARD,
    GRAFANA,
    PANELS,
    PROMETHEUS,
    ROOT,
    RULES,
    RUNBOOK,
    VARIABLES,
    panel_expressions,
)

COMPOSE = yaml.safe_load((ROOT / "deploy" / "docker-compose.yml").read_text())["services"]
TESTED = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
WHERE_THE_REPOSITORY_IS = "{{ $externalLabels.runbooks }}"
ROWS = ["Traffic", "Providers", "Circuits", "Cache", "Events", "Money", "Saturation"]


def test_every_alert_is_proved_to_ring_and_to_be_silent() -> None:
    proved = {(case["alertname"], bool(case.get("exp_alerts"))) for test in TESTED for case in test["alert_rule_test"]}

    assert proved == {(rule["alert"], rings) for rule in ALERTS for rings in (True, False)}, "both, in rules_test.yml"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_where_its_paragraph_stands(rule: dict[str, dict[str, str]]) -> None:
    page, anchor = rule["annotations"]["runbook_url"].removeprefix(WHERE_THE_REPOSITORY_IS).split("#")

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert ROOT / page == RUNBOOK
    assert anchor in anchors(RUNBOOK)


def test_every_alert_links_where_prometheus_says_the_repository_is() -> None:
    told = (PROMETHEUS / "prometheus.yml").read_text()

    assert {rule["annotations"]["runbook_url"].startswith(WHERE_THE_REPOSITORY_IS) for rule in ALERTS} == {True}
    assert re.search(r"# external_labels:\n +# +runbooks: https://.+/$", told, re.MULTILINE)


def test_every_fault_of_redis_has_its_remedy_in_the_runbook() -> None:
    told = RUNBOOK.read_text()

    assert [fault for fault in Fault if f"`{fault}`" not in told] == [Fault.AWAY]  # never counted: nothing was asked


def test_every_failure_that_an_alert_counts_has_its_remedy_in_the_runbook() -> None:
    (counted,) = (rule["expr"].split(" > ")[0] for rule in ALERTS if rule["alert"] == "ProviderFails")
    left_out = "|".join(re.findall(r'outcome!~"(.+?)"', counted)).split("|")
    told = RUNBOOK.read_text().partition("\n### Provider fails\n")[2].partition("\n### ")[0]

    assert [outcome for outcome in AttemptOutcome if f"`{outcome}`" not in told] == [
        outcome for outcome in AttemptOutcome if outcome in left_out
    ], 'its remedy in the section "Provider fails", or it is left out of that alert'


@pytest.mark.parametrize("reason", [reason for reason in HoldReason if reason is not HoldReason.OPERATOR])
def test_every_reason_for_which_the_service_itself_holds_a_circuit_has_an_alert(reason: HoldReason) -> None:
    assert [rule["alert"] for rule in ALERTS if f'circuit_breaker_held{{reason="{reason}"}}' in rule["expr"]]


@pytest.mark.parametrize("mode", DegradedMode)
def test_every_degraded_mode_has_a_warning_and_a_paragraph(mode: DegradedMode) -> None:
    assert health_warnings.MODES[mode]
    assert mode in anchors(RUNBOOK)


@pytest.mark.parametrize(
    "warning",
    [
        health_warnings.MOCK,
        health_warnings.NOBODY,
        health_warnings.ONLY_NAMED,
        health_warnings.DRAINING,
        health_warnings.LOOK_UP_FAILED,
        health_warnings.KAFKA_AWAY,
        health_warnings.HELD_CLOSED,
        health_warnings.MODEL_DEPRECATED,
        health_warnings.DAY_AHEAD,
    ],
)
def test_every_other_warning_of_the_health_has_a_paragraph(warning: str) -> None:
    assert f'### "{warning}"' in RUNBOOK.read_text()


def test_the_dashboard_has_a_row_for_each_concern_and_asks_the_source_that_is_chosen() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    sources = [panel["datasource"] for panel in PANELS]
    sources += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}


def test_every_panel_that_the_runbook_names_is_on_the_dashboard() -> None:
    prose = re.sub(r"^#.*", "", RUNBOOK.read_text(), flags=re.MULTILINE).replace("\n", " ")
    named = set(re.findall(r'"([A-Z][a-z][^":]*)"', prose))

    assert named
    assert named <= {panel["title"] for panel in PANELS}


def test_no_panel_uses_a_variable_that_nobody_defines() -> None:
    assert not [expression for _, expression in panel_expressions() if "$" in expression]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert VARIABLES.keys() == {"$__rate_interval", "$instance"}


def test_no_panel_and_no_rule_asks_for_what_is_counted_when_nothing_listens_any_more() -> None:
    asked = [expression for _, expression in panel_expressions()] + [rule["expr"] for rule in RULES]
    assert not [expression for expression in asked if "events_lost_at_exit" in expression]


def test_no_figure_has_grafana_s_own_colours_which_are_red_from_80_on() -> None:
    chosen = [panel["fieldConfig"]["defaults"] for panel in PANELS if panel["type"] == "stat"]
    assert [defaults for defaults in chosen if not {"mappings", "thresholds", "color"} & defaults.keys()] == []


def test_a_figure_of_now_is_not_the_last_of_a_series_that_has_ended() -> None:
    asked = [target for panel in PANELS if panel["type"] == "stat" for target in panel["targets"]]
    assert {(target.get("instant"), target.get("range")) for target in asked} == {(True, False)}


def test_panels_lie_side_by_side_without_gaps() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


def test_compose_mounts_what_the_monitoring_reads() -> None:
    mounted = {
        target: source
        for name in ("prometheus", "grafana")
        for source, target, *_ in (volume.split(":") for volume in COMPOSE[name]["volumes"])
    }
    for target, folder in {
        "/etc/prometheus": PROMETHEUS,
        "/etc/grafana/provisioning": GRAFANA / "provisioning",
        "/etc/grafana/dashboards": GRAFANA / "dashboards",
    }.items():
        assert (ROOT / "deploy" / mounted[target]).resolve() == folder
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "files.yml").read_text())["providers"]
    assert mounted[provider["options"]["path"]] == "./grafana/dashboards"


def test_the_monitoring_is_reachable_from_its_own_machine_only() -> None:
    published = [port for name in ("prometheus", "grafana", "jaeger") for port in COMPOSE[name]["ports"]]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_prometheus_scrapes_every_replica_under_the_name_that_both_judges_bear() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (names,) = job["dns_sd_configs"]

    assert names["names"] == ["llm-provider-service"]
    for judge in ("llm-provider-service", "llm-provider-mock"):
        assert COMPOSE[judge]["networks"]["default"]["aliases"] == names["names"]
        assert COMPOSE[judge]["ports"] == [f"127.0.0.1:8090:{names['port']}"]
