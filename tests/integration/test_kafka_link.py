"""The link to Kafka against a real broker: what it delivers, what it reports, and that it always ends."""

import asyncio
import gc
import os
import socket
import ssl
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import uvloop
from aiokafka import AIOKafkaProducer, conn  # type: ignore[import-untyped]  # it has no py.typed
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]  # likewise
from cryptography import x509
from pydantic import SecretStr

from api_models import ProcessingEvent
from config import EventSettings
from environment import ConfigurationError
from implementations.events import kafka_link, kafka_repairs
from implementations.events.kafka_failures import Forbidden, LinkDown, LinkFailure, TooLarge
from implementations.events.kafka_link import KafkaLink
from implementations.events.kafka_security import Security
from tests.fakes import begun
from tests.integration.certificates import certificate
from tests.integration.kafka_broker import PASSWORD, USER, Broker, broker
from tests.integration.mock_cluster import NOBODY, MockCluster, mock_cluster
from tests.kafka_fakes import message, miss

WRONG = PASSWORD[::-1]
TOPIC = ProcessingEvent.LLM_CACHE_MISS.topic


def link(servers: str, **settings: object) -> KafkaLink:
    return KafkaLink(servers, Security.of(EventSettings(**settings)), client_id="tests")


def test_where_apache_kafka_cannot_be_had_another_broker_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("java", "mvn"):  # one too old, and one whose repository is out of reach
        (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told: list[str] = []
    with broker(tmp_path, told.append) as found:
        assert found.answers()
    assert "'mvn'" in told[1]
    assert found.name in told[2]
    assert not any((tmp_path / "cache/llm-provider-service").iterdir())


async def test_the_producer_is_idempotent_and_waits_for_all_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes: dict[str, object] = {}

    class Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no py.typed
        def __init__(self, **arguments: object) -> None:
            wishes.update(arguments)
            super().__init__(**arguments)

    monkeypatch.setattr(kafka_link, "AIOKafkaProducer", Producer)
    with pytest.raises(LinkDown):
        await link("127.0.0.1:9").open()
    assert (wishes["enable_idempotence"], wishes["acks"]) == (True, "all")


async def test_what_is_posted_is_acknowledged(kafka: Broker) -> None:
    kafka.create(TOPIC)
    ours = link(kafka.servers)
    await ours.open()
    for future in [await ours.post(message(miss(number))) for number in range(20)]:
        await future
    await ours.close()
    await ours.close()
    with pytest.raises(LinkDown):
        await ours.post(message(miss(1)))


def test_a_connection_that_was_reset_is_no_failure_of_the_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the event loop of the service: another refuses no write to a connection that is closing."""
    transports: list[Any] = []

    class Protocol(conn.AIOKafkaProtocol):  # type: ignore[misc]  # aiokafka has no py.typed
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transports.append(transport)

    async def post() -> None:
        with mock_cluster() as cluster:
            cluster.create(TOPIC)
            ours = link(cluster.servers)
            await ours.open()
            for turns in range(20):
                posted = await ours.post(message(miss(turns)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                for transport in transports:
                    transport._force_close(ConnectionResetError())  # noqa: SLF001  what uvloop does then
                await posted
            await ours.close()

    monkeypatch.setattr(conn, "AIOKafkaProtocol", Protocol)
    uvloop.run(asyncio.wait_for(post(), 30))


async def test_a_topic_that_is_missing_is_not_all_that_is_asked_about(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' leaders would be forgotten, and what waits for them would fail."""
    kafka.create(TOPIC)
    asked: list[set[str]] = []
    look_up = AIOKafkaClient._metadata_update  # noqa: SLF001  each is a request

    async def noted(client: Any, cluster: Any, topics: set[str]) -> Any:
        asked.append(set(topics))
        return await look_up(client, cluster, topics)

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", noted)
    ours = link(kafka.servers)
    await ours.open()
    await (await ours.post(message(miss(1))))
    await ours.close()
    assert asked == [set(kafka_link.TOPICS)]


async def test_a_partition_without_a_leader_is_waited_for_and_metadata_seldom_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    look_up = AIOKafkaClient._metadata_update  # noqa: SLF001  each is a request

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await look_up(*arguments)

    monkeypatch.setattr(kafka_link, "REQUEST_TIMEOUT_MS", 300)
    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", counted)
    with mock_cluster() as cluster:
        cluster.create(TOPIC)
        ours = link(cluster.servers)
        await ours.open()
        cluster.elect(NOBODY, TOPIC)
        posted = [await ours.post(message(miss(number))) for number in range(10)]
        await asyncio.sleep(1.0)
        assert not any(future.done() for future in posted)
        assert asked < 20
        cluster.elect(1, TOPIC)
        await asyncio.wait_for(asyncio.gather(*posted), 30)
        await ours.close()


async def test_a_message_above_the_producer_s_limit_is_refused_at_once(kafka: Broker) -> None:
    kafka.create(TOPIC)
    ours = link(kafka.servers)
    await ours.open()
    one = message(miss(1))
    one.value = b"x" * 2_000_000
    with pytest.raises(TooLarge):
        await ours.post(one)
    await ours.close()


@pytest.mark.parametrize(
    ("settings", "failure"),
    [
        ({}, LinkDown),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_username": "u", "sasl_password": SecretStr("p")}, LinkDown),
    ],
)
async def test_a_broker_that_is_not_there_is_down(settings: dict[str, object], failure: type[LinkFailure]) -> None:
    with pytest.raises(failure, match="ConnectionRefusedError"):
        await link("127.0.0.1:9", **settings).open()


async def test_a_broker_whose_name_is_unknown_is_down_for_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = AsyncMock(side_effect=socket.gaierror(socket.EAI_NONAME, "unknown"))
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    with pytest.raises(LinkDown, match="gaierror"):
        await link("broker.example:9092").open()


def entry(kafka: Broker, protocol: str, **changes: object) -> KafkaLink:
    """A link to a door that wants to know who comes; only as it wants it, unless it is changed."""
    if protocol not in kafka.secured:
        pytest.skip(f"{kafka.name} has no such door; where Maven and Java are, this runs on Apache Kafka")
    assert kafka.ours is not None
    assert kafka.theirs is not None
    wanted: dict[str, object] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        wanted["ssl_ca_path"] = kafka.theirs.trusted
    if protocol == "SSL":
        wanted["ssl_certificate_path"] = kafka.ours.whole
    if protocol.startswith("SASL"):
        wanted |= {"sasl_username": USER, "sasl_password": SecretStr(PASSWORD)}
    return link(kafka.secured[protocol], **{**wanted, **changes})


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SSL", "PLAIN"),
        ("SASL_PLAINTEXT", "PLAIN"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
        ("SASL_SSL", "PLAIN"),
        ("SASL_SSL", "SCRAM-SHA-512"),
    ],
)
async def test_who_is_known_may_send(kafka: Broker, protocol: str, mechanism: str) -> None:
    kafka.create(TOPIC)
    ours = entry(kafka, protocol, sasl_mechanism=mechanism)
    await ours.open()
    await (await ours.post(message(miss(1))))
    await ours.close()


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        ("SASL_PLAINTEXT", {"sasl_password": SecretStr(WRONG)}),
        ("SASL_PLAINTEXT", {"sasl_password": SecretStr(WRONG), "sasl_mechanism": "SCRAM-SHA-256"}),
        ("SASL_SSL", {"sasl_password": SecretStr(WRONG)}),
        ("SASL_SSL", {"ssl_ca_path": None}),
        ("SSL", {"ssl_ca_path": None}),
    ],
    ids=["password", "password of SCRAM", "password over TLS", "authority of SASL_SSL", "authority"],
)
async def test_who_is_not_known_or_does_not_know_the_broker_is_refused_and_tells_no_secret(
    kafka: Broker, caplog: pytest.LogCaptureFixture, protocol: str, changes: dict[str, object]
) -> None:
    with pytest.raises(Forbidden) as refusal:
        await entry(kafka, protocol, **changes).open()
    told = caplog.text + "".join(traceback.format_exception(refusal.value))
    assert not [secret for secret in (PASSWORD, WRONG) if secret in told]


async def test_who_shows_no_certificate_where_one_is_wanted_does_not_come_in(kafka: Broker) -> None:
    with pytest.raises(LinkFailure):
        await entry(kafka, "SSL", ssl_certificate_path=None).open()


async def test_a_broker_with_the_certificate_of_another_host_hears_nothing(tmp_path: Path) -> None:
    theirs = certificate(tmp_path, "theirs", host=x509.DNSName("broker.example"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(theirs.trusted, theirs.key)
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", ssl=tls) as server:
        servers = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Forbidden):
            await link(servers, security_protocol="SSL", ssl_ca_path=theirs.trusted).open()
    assert not heard


async def test_a_frozen_broker_holds_up_neither_opening_nor_closing(kafka: Broker) -> None:
    if not kafka.can_stop:
        pytest.skip(f"{kafka.name} cannot be frozen; where Maven and Java are, this runs on Apache Kafka")
    kafka.create(TOPIC)
    ours, another = link(kafka.servers), link(kafka.servers)
    await ours.open()
    await (await ours.post(message(miss(1))))
    kafka.freeze()
    try:
        held = await ours.post(message(miss(2)))
        before_s = time.monotonic()
        await ours.close()
        assert isinstance(held.exception(), Exception)
        with pytest.raises(LinkDown):
            await another.open()
        assert time.monotonic() - before_s < 30.0
    finally:
        kafka.thaw()


async def test_a_connection_to_a_broker_that_reads_nothing_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conn.AIOKafkaConnection, "_do_version_lookup", AsyncMock())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = await conn.create_conn(*listener.getsockname())
        connection._writer.write(bytes(16 * 1024 * 1024))  # noqa: SLF001  more than the system takes
        async with asyncio.timeout(30):
            await connection.close()


@pytest.mark.parametrize(
    "be_unwell", [MockCluster.go_down, lambda cluster: cluster.slow_down(3000)], ids=["away", "slow"]
)
async def test_closing_while_messages_wait_for_a_broker_is_no_error(
    be_unwell: Callable[[MockCluster], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["message"]))
    monkeypatch.setattr(kafka_link, "REQUEST_TIMEOUT_MS", 300)
    monkeypatch.setattr(kafka_repairs, "CLOSE_TIMEOUT_S", 0.3)
    for wait_s in (0.05, 0.2, 0.4):
        with mock_cluster() as cluster:
            cluster.create(TOPIC)
            ours = link(cluster.servers)
            await ours.open()
            await (await ours.post(message(miss(1))))
            be_unwell(cluster)
            held = []
            for _ in range(2):  # those of the second time wait for room
                held += [await ours.post(message(miss(number))) for number in range(5)]
                await asyncio.sleep(wait_s)
            await ours.close()
            assert all(future.exception() for future in held)
            while left := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait_for(asyncio.wait(left), 30)
    gc.collect()  # what nobody has looked at is told by then
    assert errors == []


async def test_a_connection_that_never_closes_does_not_hold_up_closing_and_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AIOKafkaProducer, "start", AsyncMock())
    monkeypatch.setattr(AIOKafkaClient, "close", lambda _: asyncio.Event().wait())
    monkeypatch.setattr(kafka_repairs, "CLOSE_TIMEOUT_S", 0.01)
    ours = link("127.0.0.1:9")
    await ours.open()
    async with asyncio.timeout(30):
        await ours.close()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)


async def test_who_is_stopped_while_a_connection_is_closed_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender would open the next one instead."""
    monkeypatch.setattr(AIOKafkaProducer, "start", AsyncMock())
    monkeypatch.setattr(AIOKafkaClient, "close", lambda _: asyncio.Event().wait())
    monkeypatch.setattr(kafka_repairs, "CLOSE_TIMEOUT_S", 60.0)
    ours = link("127.0.0.1:9")
    await ours.open()
    closing = await begun(ours.close())
    monkeypatch.setattr(kafka_repairs, "CLOSE_TIMEOUT_S", 0.01)
    closing.cancel()
    await asyncio.wait({closing}, timeout=30)
    assert closing.cancelled()


def test_certificates_that_cannot_be_read_are_a_wrong_configuration() -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_SSL_"):
        link("127.0.0.1:9", security_protocol="SSL", ssl_ca_path="/nowhere")
    with pytest.raises(ConfigurationError, match="KAFKA_SSL_"):
        link("127.0.0.1:9", security_protocol="SSL", ssl_certificate_path="/nowhere")


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_a_key_without_its_certificate_is_a_wrong_configuration(protocol: str) -> None:
    """The broker would be spoken to as by somebody unknown."""
    login = {"sasl_username": "u", "sasl_password": SecretStr("p")} if protocol == "SASL_SSL" else {}
    with pytest.raises(ConfigurationError, match="KAFKA_SSL_KEY_PATH: not used without KAFKA_SSL_CERTIFICATE_PATH"):
        link("127.0.0.1:9", security_protocol=protocol, ssl_key_path="/key.pem", **login)


@pytest.mark.parametrize("given", [{}, {"sasl_username": "u"}, {"sasl_password": SecretStr("p")}])
def test_sasl_without_a_name_or_a_password_is_a_wrong_configuration(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_SECURITY_PROTOCOL: SASL_SSL needs KAFKA_SASL_USERNAME and"):
        link("127.0.0.1:9", security_protocol="SASL_SSL", **given)


@pytest.mark.parametrize(
    ("protocol", "given", "names"),
    [
        ("PLAINTEXT", {"sasl_username": "u", "sasl_password": SecretStr("p")}, "SASL"),
        ("SSL", {"sasl_password": SecretStr("p")}, "SASL"),
        ("PLAINTEXT", {"sasl_mechanism": "SCRAM-SHA-512"}, "SASL"),
        ("PLAINTEXT", {"ssl_ca_path": "/ca.pem"}, "SSL"),
        ("SASL_PLAINTEXT", {"sasl_username": "u", "sasl_password": SecretStr("p"), "ssl_key_path": "/k.pem"}, "SSL"),
    ],
)
def test_a_login_or_a_certificate_that_would_be_ignored_is_a_wrong_configuration(
    protocol: str, given: dict[str, object], names: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"KAFKA_{names}_\*: not used while .* is {protocol}"):
        link("127.0.0.1:9", security_protocol=protocol, **given)


def test_no_rendering_of_the_security_shows_the_password() -> None:
    settings = EventSettings(security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password=SecretStr("canary"))

    assert "canary" not in repr(Security.of(settings)) + repr(settings)
