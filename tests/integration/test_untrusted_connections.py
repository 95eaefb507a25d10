"""Who cannot prove to be the provider gets neither key nor essay, and is not asked twice."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.dialects import ANTHROPIC, GOOGLE, INTERNAL, OPENAI, OPENROUTER, Dialect
from tests.integration.service_process import ServiceProcess, prefixed, service
from tests.integration.stand_in import answer, standing_in

HERE = x509.IPAddress(IPv4Address("127.0.0.1"))
ELSEWHERE = x509.DNSName("elsewhere.example")
NOW = datetime.now(UTC)
NEXT_WEEK, YESTERDAY = NOW + timedelta(days=7), NOW - timedelta(days=1)


def certified(
    folder: Path, name_of_file: str, *, host: x509.GeneralName = HERE, until: datetime = NEXT_WEEK
) -> ssl.SSLContext:
    """A server's context with a certificate that it signed itself; whoever trusts `<name>.pem` trusts it."""
    certificate_file, key_file = folder / f"{name_of_file}.pem", folder / f"{name_of_file}.key"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name_of_file)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=10))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return context


async def test_only_who_proves_to_be_the_provider_is_given_a_question(tmp_path: Path) -> None:
    untrusted = certified(tmp_path, "untrusted")
    wrong_host = certified(tmp_path, "wrong_host", host=ELSEWHERE)
    expired = certified(tmp_path, "expired", until=YESTERDAY)
    good = certified(tmp_path, "good")
    trusted = tmp_path / "trusted.pem"
    trusted.write_text("".join((tmp_path / f"{name}.pem").read_text() for name in ("wrong_host", "expired", "good")))
    async with (
        standing_in(answer(ANTHROPIC.good()), tls=untrusted) as anthropic,
        standing_in(answer(OPENAI.good()), tls=wrong_host) as openai,
        standing_in(answer(GOOGLE.good()), tls=expired) as google,
        speaking_plainly() as plain_url,
        standing_in(answer(INTERNAL.good()), tls=good) as internal,
    ):
        variables = {
            **ANTHROPIC.variables(anthropic.url),
            **OPENAI.variables(openai.url),
            **GOOGLE.variables(google.url),
            **OPENROUTER.variables(plain_url),
            **INTERNAL.variables(internal.url),
        }
        with service(tmp_path, {"SSL_CERT_FILE": str(trusted), **prefixed(**variables)}) as judges:
            for dialect, attempts in ((ANTHROPIC, 1), (OPENAI, 1), (GOOGLE, 1), (OPENROUTER, 3)):
                await is_refused(judges, dialect, attempts=attempts)
            assert (await asyncio.to_thread(ask, judges, INTERNAL))[0] == 200
    assert [len(one.requests) for one in (anthropic, openai, google, internal)] == [0, 0, 0, 1]


@asynccontextmanager
async def speaking_plainly() -> AsyncIterator[str]:
    """Somebody who answers a TLS greeting in plain text; the https URL."""

    async def answer_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer_at_once, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def is_refused(judges: ServiceProcess, dialect: Dialect, *, attempts: int) -> None:
    status, body = await asyncio.to_thread(ask, judges, dialect)
    assert (status, body["error_type"]) == (503, "CONNECTION_ERROR")
    shown = {one["name"]: one for one in judges.ask("/api/v1/providers").json()["providers"]}
    assert shown[dialect.name]["failure_count"] == attempts


def ask(judges: ServiceProcess, dialect: Dialect) -> tuple[int, dict[str, object]]:
    told = judges.compare(llm_config_overrides={"provider_override": dialect.name})
    return told.status, told.json()
