"""The manifests fit each other and the service: its settings, its probes, its way to stop."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import VERSION, Settings, settings_table
from environment import PREFIX, ConfigurationError, known_variables
from tests.stop_time import AFTER_DRAIN_S

MANIFESTS = Path(__file__).parents[2] / "deploy" / "k8s"


def manifest(name: str) -> dict[str, Any]:
    read = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
    assert isinstance(read, dict)
    return read


DEPLOYMENT: dict[str, Any] = manifest("deployment")["spec"]
POD: dict[str, Any] = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
CONFIGURED = dict(
    line.split("=", 1) for line in (MANIFESTS / "settings.env").read_text().splitlines() if not line.startswith("#")
)
SECRETS: dict[str, str] = manifest("secret.example")["stringData"]


def test_only_settings_that_the_service_reads_are_set() -> None:
    assert set(CONFIGURED) | set(SECRETS) <= known_variables(settings_table())


def test_what_is_a_secret_stands_in_the_secret() -> None:
    secret = {name for row in settings_table() if row.is_secret for name in row.spellings()}
    assert not set(CONFIGURED) & secret
    assert set(SECRETS) <= secret
    assert not any(SECRETS.values())


def test_a_change_of_the_settings_is_rolled_out() -> None:
    """Kustomize puts a digest of them into the name to which the pods refer; pods would not notice a change else."""
    (settings,) = manifest("kustomization")["configMapGenerator"]
    assert settings == {"name": CONTAINER["envFrom"][0]["configMapRef"]["name"], "envs": ["settings.env"]}
    assert "generatorOptions" not in manifest("kustomization")


def test_the_values_of_the_settings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CONFIGURED.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment()
    assert settings.service.environment == "production"
    deployed = manifest("deployment")["spec"]
    assert settings.cost.replicas == deployed["replicas"] + deployed["strategy"]["rollingUpdate"]["maxSurge"]


@pytest.mark.parametrize("injected", ["PORT", "SERVICE_HOST", "PORT_8080_TCP_ADDR"])
def test_what_kubernetes_would_inject_for_the_service_stops_the_start(
    injected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest("service")["metadata"]["name"].upper().replace("-", "_") + "_" == PREFIX
    assert POD["enableServiceLinks"] is False
    monkeypatch.setenv(f"{PREFIX}{injected}", "tcp://10.0.0.1:8080")
    with pytest.raises(ConfigurationError, match=injected):
        Settings.from_environment()


def test_a_pod_is_given_longer_than_its_drain_takes() -> None:
    drain_s = sum(float(CONFIGURED[f"{PREFIX}DRAIN_{part}_S"]) for part in ("DELAY", "GRACE"))
    assert POD["terminationGracePeriodSeconds"] >= drain_s + AFTER_DRAIN_S


def test_a_rolling_update_refuses_nobody() -> None:
    """A new pod is ready before an old one ends, which serves until its endpoint is gone everywhere."""
    assert DEPLOYMENT["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert float(CONFIGURED[f"{PREFIX}DRAIN_DELAY_S"]) >= 5


def test_only_readiness_depends_on_more_than_the_event_loop() -> None:
    paths = {kind: CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


def test_the_container_may_nothing_but_run() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_selector_finds_the_pods() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = (
        manifest("deployment")["spec"]["selector"]["matchLabels"],
        manifest("service")["spec"]["selector"],
        manifest("disruption-budget")["spec"]["selector"]["matchLabels"],
        manifest("network-policy")["spec"]["podSelector"]["matchLabels"],
    )
    assert all(selector == labels for selector in selectors)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("203.0.113.1", True), ("2001:db8::1", True), ("64:ff9b::203.0.113.1", True)]
    + [(inside, False) for inside in ("10.1.2.3", "192.168.1.1", "169.254.169.254", "fd00:ec2::254", "fe80::1")],
)
def test_providers_are_reached_over_either_family_and_the_network_s_own_addresses_over_none(
    address: str, *, allowed: bool
) -> None:
    blocks = [
        to["ipBlock"] for rule in manifest("network-policy")["spec"]["egress"] for to in rule["to"] if "ipBlock" in to
    ]
    reached = [
        ip_address(address) in ip_network(block["cidr"])
        and not any(ip_address(address) in ip_network(left_out) for left_out in block["except"])
        for block in blocks
    ]
    assert any(reached) is allowed


def test_everything_but_the_examples_is_applied_together_in_this_version() -> None:
    files = {path.name for path in MANIFESTS.glob("*.yaml") if ".example." not in path.name}
    together = manifest("kustomization")
    assert set(together["resources"]) == files - {"kustomization.yaml"}
    assert CONTAINER["image"] == f"llm-provider-service:{VERSION}"
    assert together["images"][0]["newTag"] == VERSION
