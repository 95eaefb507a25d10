"""The image holds what the service is, and the compose file passes only what the service reads."""

import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from api_models import ErrorBody
from config import KeyedProviderSettings, Settings, settings_table
from environment import known_variables
from tests.stop_time import AFTER_DRAIN_S

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "deploy" / "docker-compose.yml").read_text()
HAPROXY = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
SERVICE, MOCK = SERVICES["llm-provider-service"], SERVICES["llm-provider-mock"]
USE_MOCK = "LLM_PROVIDER_SERVICE_USE_MOCK_LLM"


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_the_image_holds_every_file_of_the_service_and_the_build_context_lets_no_other_through() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {item for copy in instructions("COPY") for item in copy.split() if not item.startswith("--")}
    assert allowed == {"*.py", "api", "implementations", "pyproject.toml", "requirements.lock"} <= copied


def test_the_image_installs_no_installer_beside_the_service() -> None:
    assert "venv --without-pip /venv" in instructions("RUN")[0]


def test_the_image_installs_nothing_that_the_lock_does_not_pin() -> None:
    _, install = instructions("RUN")[0].split("&&")
    assert {"--require-hashes", "--no-deps", "--only-binary :all:"} <= set(
        re.findall(r"--only-binary \S+|--\S+", install)
    )


def test_the_image_knows_the_revision_that_it_was_built_from() -> None:
    assert instructions("ARG")[-1] == 'REVISION=""'
    assert "LLM_PROVIDER_SERVICE_REVISION=$REVISION" in instructions("ENV")
    assert SERVICE["build"]["args"] == {"REVISION": "${REVISION:-}"}


def test_the_image_s_user_reads_files_that_a_umask_kept_from_others(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir(mode=0o700)
    (tmp_path / "api" / "room.py").touch(mode=0o600)
    python = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", instructions("RUN")[-1]], cwd=tmp_path, env=python, check=True)
    copied = [path.stat().st_mode & 0o055 for path in (tmp_path / "api", tmp_path / "api" / "room.py")]
    assert copied == [0o055, 0o044]


def test_the_image_runs_python_itself_as_a_numeric_user() -> None:
    assert instructions("CMD")[-1] == '["python", "app.py"]'
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", instructions("USER")[-1])
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_both_health_checks_ask_healthz_and_fail_when_nothing_listens_on_either_family() -> None:
    in_image = re.search(r'CMD \["python", "-c", "(.*?)"\]', instructions("HEALTHCHECK")[0])
    assert in_image is not None
    for script in (in_image[1], SERVICE["healthcheck"]["test"][-1].replace("8080", "9")):
        probe = subprocess.run(
            [sys.executable, "-c", script], env={"LLM_PROVIDER_SERVICE_PORT": "9"}, check=False, capture_output=True
        )
        assert b"[Errno " in probe.stderr  # refused, or no IPv6 here
        assert probe.returncode == 1
        assert "HTTPConnection('localhost'," in script  # HOST may be ::, an address of one family only
        assert "'/healthz'" in script


def test_compose_passes_only_settings_that_the_service_reads() -> None:
    assert set(SERVICE["environment"]) | set(MOCK["environment"]) <= known_variables(settings_table())


def test_the_key_of_every_vendor_has_a_place_in_compose_and_in_the_secret() -> None:
    secret = yaml.safe_load((ROOT / "deploy" / "k8s" / "secret.example.yaml").read_text())["stringData"]
    groups = [name for name, group in Settings() if isinstance(group, KeyedProviderSettings)]
    keys = {row.bare[0] for row in settings_table() if row.group in groups and row.field == "api_key"}
    assert len(keys) > 1
    assert keys <= SERVICE["environment"].keys() & secret.keys()


@pytest.mark.parametrize("setting", ["AUTH_MODE", "CALLER_API_KEYS", "TRUSTED_PROXIES", "ADMIN_ALLOWED_IPS"])
@pytest.mark.parametrize("judge", [SERVICE, MOCK], ids=["live", "mock"])
def test_compose_lets_whoever_starts_it_say_who_may_ask(judge: dict[str, dict[str, str]], setting: str) -> None:
    variable = f"LLM_PROVIDER_SERVICE_{setting}"
    assert judge["environment"][variable].startswith(f"${{{variable}:-")


def test_compose_lets_the_mock_judge_only_when_asked_to() -> None:
    assert USE_MOCK not in SERVICE["environment"]
    assert MOCK["environment"][USE_MOCK] == "true"
    assert (SERVICE["profiles"], MOCK["profiles"]) == (["live"], ["mock"])
    for profile in ("live", "mock"):
        assert f"#   docker compose -f deploy/docker-compose.yml --profile {profile} up --build" in COMPOSE


def test_the_mock_in_compose_needs_no_key() -> None:
    keys = {name for name in SERVICE["environment"] if name.endswith("_API_KEY")}
    assert keys - set(MOCK["environment"]) == keys - {"LLM_ADMIN_API_KEY"}
    assert {key: value for key, value in SERVICE.items() if key not in {"environment", "profiles"}} == {
        key: value for key, value in MOCK.items() if key not in {"environment", "profiles"}
    }


def test_nothing_in_compose_starts_without_a_profile_and_traces_go_only_where_somebody_wants_them() -> None:
    assert all(one["profiles"] for one in SERVICES.values())
    variable = "LLM_PROVIDER_SERVICE_OTLP_ENDPOINT"
    assert SERVICE["environment"][variable] == f"${{{variable}:-}}"
    assert f"{variable}=http://jaeger:4318" in COMPOSE


def test_a_full_redis_of_compose_drops_answers_first_and_writes_no_disk() -> None:
    _, *options = SERVICES["redis"]["command"]
    told = dict(zip(options[::2], options[1::2], strict=True))
    assert (told["--maxmemory-policy"], told["--save"]) == ("volatile-ttl", "")
    assert "--maxmemory" in told


@pytest.mark.parametrize("name", ["llm-provider-service", "llm-provider-mock", "prometheus", "grafana", "jaeger"])
def test_what_compose_runs_can_write_and_raise_nothing(name: str) -> None:
    one = SERVICES[name]
    assert (one["read_only"], one["cap_drop"], one["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert {"mem_limit", "cpus", "pids_limit"} <= one.keys()


def test_compose_waits_longer_than_the_drain_takes() -> None:
    environment = SERVICE["environment"]
    drain_s = sum(int(environment[f"LLM_PROVIDER_SERVICE_DRAIN_{part}_S"]) for part in ("DELAY", "GRACE"))
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) >= drain_s + AFTER_DRAIN_S


def test_compose_announces_the_end_for_longer_than_the_balancer_takes_to_notice_it() -> None:
    probe = re.search(r"check inter (\d+)ms fall (\d+)", HAPROXY)
    assert probe is not None
    noticed_s = int(probe[1]) * int(probe[2]) / 1000
    assert int(SERVICE["environment"]["LLM_PROVIDER_SERVICE_DRAIN_DELAY_S"]) > 2 * noticed_s


def test_compose_starts_the_service_without_waiting_for_redis_and_kafka() -> None:
    assert "depends_on" not in SERVICE


def test_the_proxy_says_where_a_caller_is_and_callers_do_not() -> None:
    lines = [line.strip() for line in HAPROXY.partition("frontend callers")[2].partition("backend")[0].splitlines()]
    assert {"option forwardfor", "http-request del-header Forwarded"} <= set(lines)


def test_the_proxy_s_own_errors_are_bodies_that_callers_can_read() -> None:
    answers = re.findall(
        r"http-error status (\d+) content-type application/json lf-string '(.+)'(?: hdr Retry-After (\d+))?\n", HAPROXY
    )
    assert [status for status, _, _ in answers] == ["404", "502", "503", "504"]
    for _, body, retry_after in answers:
        error = ErrorBody.model_validate_json(body.replace("%[unique-id]", str(uuid4())))
        assert str(error.retry_after or "") == retry_after
    assert balancer_says("http-request capture unique-id len 36")  # so that the log shows it


def test_the_proxy_s_log_holds_no_path_no_query_and_no_header() -> None:
    assert not balancer_says("option httplog")
    (line,) = re.findall(r'log-format "(.+)"\n', HAPROXY)
    parts = set(re.findall(r"%(?:{.*?})?(\w+)", line))
    assert {"ST", "hr", "HM"} < parts
    assert not parts & {"r", "HU", "HP", "HPO", "HQ"}
    assert re.findall(r"capture (.+)", HAPROXY) == ["unique-id len 36"]  # no other header, no cookie


def balancer_says(line: str) -> bool:
    """Whether HAProxy's configuration holds the line; comments do not count."""
    return line in {known.strip() for known in HAPROXY.splitlines()}


@pytest.mark.parametrize(
    "line",
    [
        "balance random(2)",
        "retry-on conn-failure",
        "option abortonclose",
        "option http-server-close",
        "option httpchk GET /readyz",
        "http-check expect status 200",
        "timeout http-request 10s",
        "http-request deny deny_status 404 if { path /metrics }",
    ],
)
def test_the_balancer_is_set_as_the_page_on_scaling_says(line: str) -> None:
    assert balancer_says(line)


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_balancer_waits_longer_than_a_caller(side: str) -> None:
    found = re.search(rf"timeout {side} +(\d+)s", HAPROXY)
    assert found is not None
    assert int(found[1]) > 60
