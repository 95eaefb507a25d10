"""Who cannot prove to be the provider gets neither key nor essay, and is not asked twice."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from cryptography import x509

from tests.integration.certificates import HERE, NEXT_WEEK, YESTERDAY, certificate
from tests.integration.dialects import ANTHROPIC, GOOGLE, INTERNAL, OPENAI, OPENROUTER, Dialect
from tests.integration.service_process import ServiceProcess, prefixed, service
from tests.integration.stand_in import answer, standing_in

ELSEWHERE = x509.DNSName("elsewhere.example")


def certified(folder: Path, name: str, *, host: x509.GeneralName = HERE, until: datetime = NEXT_WEEK) -> ssl.SSLContext:
    """A server's context with a certificate of its own; whoever trusts `<name>.pem` trusts it."""
    made = certificate(folder, name, host=host, until=until)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.trusted, made.key)
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
