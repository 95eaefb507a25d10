"""What is taken as the address of a provider, of Redis, a proxy or a network; any other stops the start unseen."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from addresses import RedisAddress
from config import Settings, settings_table
from environment import PREFIX
from tests.integration.certificates import certificate
from tests.integration.service_process import ROOT
from tests.unit.refusals import CANARY, Refused

BASE_URLS = [row.variable for row in settings_table() if row.field == "base_url"]


@pytest.mark.parametrize("name", BASE_URLS)
@pytest.mark.parametrize(
    "value",
    [
        f"https://user:{CANARY}@models.example/v1",
        f"https://{CANARY}@models.example",
        f"https://models.example/v1?key={CANARY}",
        f"https://models.example/v1#{CANARY}",
        f"https://models.example\\{CANARY}",
        f"https://models.example/{CANARY} /v1",
        f"https://models.example/{CANARY}\n/v1",
        f"https:///{CANARY}",
        f"https://:80/{CANARY}",
        f"{CANARY}.example/v1",
        f"//{CANARY}.example",
        f"https://models.example:0/{CANARY}",
        f"https://models.example:65536/{CANARY}",
        f"https://models.example:{CANARY}",
        f"https://[1.2.3]/{CANARY}",
        f"https://[cafe]:443/{CANARY}",
        f"https://[::::]/{CANARY}",
    ],
)
def test_a_base_url_holds_no_credentials_and_nothing_after_its_path(name: str, value: str, refused: Refused) -> None:
    assert refused(prefix="", **{name: value}).startswith(f"{name}: must be an http or https URL")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://models.example/v1/", "https://models.example/v1"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://model_server:65535/v1", "http://model_server:65535/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_a_base_url_loses_its_last_slash(written: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BASE_URLS:
        monkeypatch.setenv(name, written)
    assert {group.base_url for group in Settings.from_environment().provider_groups().values()} == {read}


@pytest.mark.parametrize("url", ["http://a..b/v1", f"http://{'x' * 64}.example/v1", "http://-a/v1"])
def test_a_host_that_no_resolver_takes_is_refused(url: str, refused: Refused) -> None:
    assert refused(OPENAI_BASE_URL=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379",
        "redis://localhost:6379/3",
        "redis://user:p%40ss@redis.example:6380/0",
        "redis://:password@[::1]:6379/?db=2",
        "rediss://user:password@redis.example:6380/1?ssl_ca_certs=redis.pem",
        "unix:///run/redis.sock?db=1",
        "unix://user:password@/run/redis.sock",
        "redis+sentinel://user:password@one:26379,two,[::1]:26380/primary/2",
        "rediss+sentinel://one/primary?ssl_ca_certs=redis.pem",
        "redis+cluster://user:password@one:6379,[::1]:6380/0",
        "rediss+cluster://one?ssl_ca_certs=redis.pem",
        "rediss://one?ssl_certfile=redis.pem&ssl_keyfile=redis.key",
        "rediss://one?ssl_certfile=redis.whole.pem",
    ],
)
def test_the_usual_forms_of_a_redis_url_are_taken(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate(tmp_path, "redis")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", url)
    settings = Settings.from_environment()
    assert settings.cache.redis_url == SecretStr(url)
    assert url not in repr(settings)


def test_sentinels_have_a_password_and_a_port_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate(tmp_path, "redis")
    monkeypatch.chdir(tmp_path)
    url = "rediss+sentinel://me:p%40ss@one:7000,[::1]/essays/2?ssl_ca_certs=redis.pem"
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", url)
    monkeypatch.setenv(f"{PREFIX}REDIS_SENTINEL_PASSWORD", "a/b@c")
    assert Settings.from_environment().cache.redis == RedisAddress(
        url="rediss://me:p%40ss@essays/2?ssl_ca_certs=redis.pem",
        witnesses=(
            "rediss://:a%2Fb%40c@one:7000?ssl_ca_certs=redis.pem",
            "rediss://:a%2Fb%40c@[::1]:26379?ssl_ca_certs=redis.pem",
        ),
        primary="essays",
    )


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (f"http://{CANARY}@redis:6379", "must be redis://"),
        (f"{CANARY}", "must be redis://"),
        (f"redis://:{CANARY}@", "must be redis://"),
        (f"redis://:{CANARY}@redis..example", "must be redis://"),
        (f"redis://:{CANARY}@{'x' * 64}.example", "must be redis://"),
        (f"redis://:{CANARY}@${{REDIS_HOST}}:6379", "must be redis://"),
        (f"redis+sentinel://:{CANARY}@one,$(REDIS_HOST)/primary", "must be redis://"),
        (f"redis://:{CANARY}@redis:0", "must be redis://"),
        (f"redis://:{CANARY}@redis:65536", "must be redis://"),
        (f"redis://:{CANARY}@redis:port", "must be redis://"),
        (f"redis://:{CANARY}@[::1", "must be redis://"),
        (f"redis://redis/{CANARY}", "must be redis://"),
        (f"redis://redis/0#{CANARY}", "must be redis://"),
        (f"redis://redis/0?{CANARY}", "must be redis://"),
        (f"redis://redis/0?db={CANARY}", "must be redis://"),
        ("unix:///", "must be redis://"),
        (f"redis://redis/0?socket_timeout={CANARY}", "accepts only the options db, "),
        (f"redis://redis/0?ssl_ca_certs={CANARY}", "accepts only the options db, "),
        (f"rediss://redis/0?ssl_cert_reqs={CANARY}", "accepts only the options db, "),
        (f"rediss://redis/0?ssl_ca_certs=/nowhere/{CANARY}", "names a file that cannot be read"),
        ("rediss://redis/0?ssl_ca_certs=", "names a file that cannot be read"),
        ("rediss://redis/0?ssl_ca_certs=README.md", "names a file that cannot be read"),
        ("rediss://redis/0?ssl_ca_certs=%00", "names a file that cannot be read"),
        ("rediss://redis/0?ssl_certfile=README.md", "names a file that cannot be read"),
        ("rediss://redis/0?ssl_keyfile=README.md", "names a file that cannot be read"),
        (f"redis+sentinel://:{CANARY}@one:26379,two:26379", "must be redis://"),
        (f"redis+sentinel://:{CANARY}@one:26379,/primary", "must be redis://"),
        (f"redis+sentinel://:{CANARY}@one:port/primary", "must be redis://"),
        (f"redis+sentinel://:{CANARY}@one, two/primary", "must be redis://"),
        (f"redis+sentinel://:{CANARY}@one/primary/zero", "must be redis://"),
        (f"redis+sentinel://:{CANARY}@one/primary?db=0", "must be redis://"),
        (f"redis+sentinel://one/primary?ssl_ca_certs={CANARY}", "accepts only the options db, "),
        (f"rediss+sentinel://one/primary?ssl_ca_certs=/nowhere/{CANARY}", "names a file that cannot be read"),
        (f"redis+cluster://:{CANARY}@one:6379,", "must be redis://"),
        (f"redis+cluster://:{CANARY}@one:6379/1", "must be redis://"),
        (f"redis+cluster://:{CANARY}@one:6379?db=0", "must be redis://"),
        (f"redis+else://:{CANARY}@one:6379", "must be redis://"),
        (f"unix+cluster://:{CANARY}@/run/redis.sock", "must be redis://"),
        (f"unix+sentinel://:{CANARY}@one/run/redis.sock", "must be redis://"),
    ],
)
def test_any_other_redis_url_stops_the_start_and_is_not_shown(url: str, complaint: str, refused: Refused) -> None:
    assert refused(REDIS_URL=url).startswith(f"{PREFIX}REDIS_URL: {complaint}")


@pytest.mark.parametrize(
    "reads_it",
    [
        "import addresses; addresses.redis_address('rediss://redis?ssl_certfile=own.pem&ssl_keyfile=own.key')",
        (
            "import config; from implementations.events.kafka_security import Security; Security.of(config."
            "EventSettings(security_protocol='SSL', ssl_certificate_path='own.pem', ssl_key_path='own.key'))"
        ),
    ],
)
def test_the_password_of_an_encrypted_key_is_not_asked_for(reads_it: str, tmp_path: Path) -> None:
    """The start would wait for somebody to type it."""
    own = certificate(tmp_path, "own")
    key = load_pem_private_key(own.key.read_bytes(), None)
    own.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(CANARY.encode())))
    ended = subprocess.run(
        [sys.executable, "-c", reads_it],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        input=f"{CANARY}\n".encode(),
        capture_output=True,
        start_new_session=True,  # without a terminal it is read from here
        check=False,
    )
    assert b"cannot be read" in ended.stderr


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy.example:3128",
        "https://proxy.example",
        "socks5://proxy.example:1080",
        "http://",
        "http://proxy..example:3128",
        "http://$PROXY_HOST:3128",
        "http://proxy.example:0",
        "http://user:10%E2%82%AC@proxy.example:3128",
        "http://us%3Aer:password@proxy.example:3128",
        "http://DOMAIN\\user:password@proxy.example:3128",
    ],
)
def test_a_proxy_that_the_client_cannot_use_stops_the_start_and_is_not_shown(
    proxy: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert not Settings.from_environment().outbound.trusts_environment
    assert refused(OUTBOUND_PROXY_FROM_ENVIRONMENT="true") == (
        f"{PREFIX}OUTBOUND_PROXY_FROM_ENVIRONMENT: HTTP_PROXY and HTTPS_PROXY must be http://host:port, "
        "with a login in Latin-1 if any, \\ in it as %5C."
    )


def test_usable_proxies_of_the_environment_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://DOMAIN%5Cus%C3%A9r:pass%3Aword@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv(f"{PREFIX}OUTBOUND_PROXY_FROM_ENVIRONMENT", "true")
    assert Settings.from_environment().outbound.trusts_environment


@pytest.mark.parametrize("name", ["TRUSTED_PROXIES", "ADMIN_ALLOWED_IPS"])
def test_networks_are_read_as_lists(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + name, "10.1.2.3, fc00::/7,::1,::ffff:192.0.2.0/120")
    access = Settings.from_environment().access
    read = access.trusted_proxies if name == "TRUSTED_PROXIES" else access.admin_allowed_ips
    assert list(map(str, read)) == ["10.1.2.3/32", "fc00::/7", "::1/128", "192.0.2.0/24"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TRUSTED_PROXIES", f"{CANARY}.example"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/0"),
        ("TRUSTED_PROXIES", "::/0"),
        ("TRUSTED_PROXIES", "0.0.0.0/1,128.0.0.0/1"),
        ("TRUSTED_PROXIES", "2000::/3"),
        ("TRUSTED_PROXIES", "::ffff:0.0.0.0/96"),
        ("ADMIN_ALLOWED_IPS", CANARY),
        ("ADMIN_ALLOWED_IPS", "10.0.0.256"),
        ("ADMIN_ALLOWED_IPS", "[7, null]"),
    ],
)
def test_what_is_no_network_or_everybody_s_is_refused(name: str, text: str, refused: Refused) -> None:
    assert refused(**{name: text}).startswith(f"{PREFIX}{name}: must")
