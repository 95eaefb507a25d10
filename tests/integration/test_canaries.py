"""One search over everything that leaves the service: no key, no essay, no word of an upstream failure is in it.

What callers say about a pupil goes into events and back to them, and to no provider.
"""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import orjson

from metrics import TOPICS
from tests.integration.collector import collecting
from tests.integration.dialects import CANARIES, DIALECTS, ESSAY, KEY, QUESTION, UPSTREAM, Dialect
from tests.integration.kafka_broker import Broker
from tests.integration.redis_server import PASSWORD, RedisServer, redis_server
from tests.integration.service_process import COMPARISON, Answer, ServiceProcess, prefixed, service
from tests.integration.stand_in import Act, answer, hanging, standing_in

ADMIN_KEY = "kanarienvogel-admin-0123456789"
PUPIL, CALL = "zaunkoenig", "5ca1ab1e-0000-4000-8000-000000000000"
READ = (
    *("/healthz", "/livez", "/readyz", "/metrics", "/api/v1/providers", "/api/v1/models", "/api/v1/cache/stats"),
    *("/", "/docs", "/openapi.json", "/api/v1/operations"),
    *("/api/v1/usage/summary", f"/api/v1/usage/summary?period={ESSAY}", f"/{ESSAY}", f"/api/v1/{KEY}"),
)
JSON = {"Content-Type": "application/json"}
AS_ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
# Acts that are done, acts that are refused for what they hold, and what can be read afterwards.
STEERING: tuple[tuple[str, str, bytes | None], ...] = (
    ("PATCH", "settings", b'{"llm_default_max_tokens": 2048}'),
    ("PATCH", "settings", orjson.dumps({"openai_default_model": KEY})),
    ("PATCH", "settings", orjson.dumps({"log_level": ESSAY})),
    ("PATCH", "settings", orjson.dumps({"openai_api_key": KEY})),
    ("PATCH", "settings", orjson.dumps({"routing_rules": [{"user_id": PASSWORD, "provider": "openai"}]})),
    ("PATCH", "settings", orjson.dumps({KEY: 1, f"{KEY}\n": PASSWORD})),
    ("DELETE", f"settings/{KEY}", None),
    ("PUT", "circuits/openai", b'{"state": "closed", "reason": "a test"}'),
    ("PUT", "circuits/openai", orjson.dumps({"state": "open", "reason": f"with {KEY}"})),
    ("PUT", f"circuits/{ESSAY}", b'{"state": "open", "reason": "a test"}'),
    ("POST", "cache/clear", None),
    ("POST", "alerts/reset", None),
    *(("GET", path, None) for path in ("settings", "circuits", "changes")),
)


def faults(dialect: Dialect) -> list[Act]:
    """What goes well, what is refused, what is broken: each with foreign words in it."""
    broken = (b"<html>" + UPSTREAM.encode(), {"error": UPSTREAM}, [UPSTREAM], dialect.says(f"It is {UPSTREAM}."))
    return [
        answer(dialect.good()),
        *(dialect.fails(case, x_secret=KEY) for case in dialect.failures),
        *(answer(body) for body in (*broken, dialect.refusal, dialect.cut(), dialect.filtered())),
        answer(b"", 302, Location=f"http://127.0.0.1:9/{UPSTREAM}"),
        hanging(),
    ]


def refused_bodies() -> Iterable[bytes]:
    """Requests that are wrong somewhere, with a canary at the wrong place."""
    yield b'{"user_prompt": "' + ESSAY.encode()
    yield ESSAY.encode()
    wrong: tuple[dict[str, object], ...] = (
        {"essay_a": [ESSAY]},
        {"essay_b": f"{ESSAY}\x00"},
        {"correlation_id": ESSAY},
        {"replicate": ESSAY},
        {ESSAY: ESSAY, "metadata": ESSAY},
        {"metadata": {ESSAY: ESSAY * 2000}},
        {"user_prompt": f"{ESSAY} {{essay_a}}"},
        {"llm_config_overrides": {"provider_override": ESSAY}},
        {"llm_config_overrides": {"model_override": f"{ESSAY} ?"}},
        {"llm_config_overrides": {"model_override": ESSAY}},
        {"llm_config_overrides": {"temperature_override": ESSAY}},
        {"llm_config_overrides": {"max_tokens_override": -1, "system_prompt_override": {ESSAY: 1}}},
    )
    for changes in wrong:
        yield orjson.dumps({**QUESTION, **changes})


def everything(answer: Answer) -> str:
    """An answer as text; a verdict's justification is the model's own and may be given out, as may what was given."""
    body = answer.text
    if body.startswith('{"winner":'):
        told = orjson.loads(body)
        assert UPSTREAM in told.pop("justification")
        assert told.pop("metadata") == {"pupil": PUPIL}
        body = orjson.dumps(told).decode()
    return f"{answer.status} {dict(answer.headers)} {body}"


async def provoke(running: ServiceProcess, dialect: Dialect) -> list[str]:
    """Ask one provider for each of its faults, one after the other."""
    told = {"user_id": PUPIL, "metadata": {"pupil": PUPIL}, "correlation_id": CALL}
    overrides = {"provider_override": dialect.name}
    return [
        everything(
            await asyncio.to_thread(
                running.compare,
                headers={"X-Request-Timeout-Ms": "2500"},
                **{**QUESTION, **told, "llm_config_overrides": overrides, "replicate": number},
            )
        )
        for number in range(len(faults(dialect)))
    ]


def ask_wrongly(running: ServiceProcess) -> list[str]:
    bad = [
        running.ask(COMPARISON, method="POST", body=body, headers={**JSON, "X-Correlation-ID": ESSAY, "Cookie": ESSAY})
        for body in refused_bodies()
    ]
    steered = [
        running.ask(f"/api/v1/admin/{path}", method=method, body=body, headers={**JSON, **AS_ADMIN})
        for method, path, body in STEERING
    ]
    refused = [
        running.ask("/api/v1/admin/settings", headers={"Authorization": f"Bearer {key}"}) for key in (KEY, ESSAY)
    ]
    strange = [
        running.ask(COMPARISON, method=ESSAY.upper()),
        running.ask(f"/api/v1/providers/{ESSAY}/test?{ESSAY}={ESSAY}", method="POST"),
        running.ask(COMPARISON, method="POST", body=b"x", headers={"Content-Type": f"text/{ESSAY}"}),
        running.ask(COMPARISON, method="POST", body=b"{}", headers={**JSON, "X-Request-Timeout-Ms": ESSAY}),
    ]
    return [everything(told) for told in (*bad, *steered, *refused, *strange, *map(running.ask, READ))]


def kept_in(redis: RedisServer) -> str:
    """All keys and values of Redis, but for justifications."""
    reads = [command for key in redis.all_keys() for command in (("GETRANGE", key, "0", "-1"), ("HGETALL", key))]
    texts = [f"{command[1]} {redis.ask(*command).decode('utf-8', 'replace')}" for command in reads]
    return "\n".join(texts).replace(f"The {UPSTREAM} gives reasons.", "")


def spooled(directory: Path) -> str:
    """What the files of the spool hold, also of events that have been sent."""
    return b"".join(path.read_bytes() for path in directory.glob("spool.db*")).decode("utf-8", "replace")


async def test_nothing_that_leaves_the_service_holds_a_secret(kafka: Broker, tmp_path: Path) -> None:
    kafka.create(*TOPICS)
    run = str(uuid4())
    variables = prefixed(
        ENVIRONMENT="production",
        LOG_LEVEL="DEBUG",
        CIRCUIT_BREAKER_ENABLED="false",
        LLM_ATTEMPT_TIMEOUT="1",
        KAFKA_BOOTSTRAP_SERVERS=kafka.servers,
        ADMIN_API_KEY=ADMIN_KEY,
        CACHE_KEY_PREFIX=run,
        EVENT_SPOOL_PATH=str(tmp_path / "spool.db"),
    )
    async with AsyncExitStack() as stack:
        providers = [await stack.enter_async_context(standing_in(*faults(dialect))) for dialect in DIALECTS]
        for dialect, provider in zip(DIALECTS, providers, strict=True):
            variables |= prefixed(**dialect.variables(provider.url))
        collector = stack.enter_context(collecting())
        variables |= prefixed(OTLP_ENDPOINT=collector.url)
        redis = stack.enter_context(redis_server(tmp_path, password=PASSWORD))
        variables |= prefixed(REDIS_URL=redis.url)
        running = stack.enter_context(service(tmp_path, variables))
        answers = await asyncio.gather(*(provoke(running, dialect) for dialect in DIALECTS))
        told = [text for texts in answers for text in texts] + await asyncio.to_thread(ask_wrongly, running)
        in_redis = kept_in(redis)
        in_spool = spooled(tmp_path)
        running.terminate()
        assert await asyncio.to_thread(running.exit_code) == 0
    events = [f"{one.key()!r} {one.headers()!r} {one.value()!r}" for one in kafka.read(*TOPICS, at_least=100)]
    outputs = {
        "answers": "\n".join(told),
        "log": running.written(),
        "redis": in_redis,
        "events": "\n".join(events),
        "spans": "\n".join(str(batch) for batch in collector.batches),
        "spool": in_spool,
        "questions": "\n".join(f"{asked.headers} {asked.body!r}" for one in providers for asked in one.requests),
    }
    marked = {
        "answers": "CONTENT_REFUSED",
        "log": "request_finished",
        "redis": run,
        "events": PUPIL,
        "spans": "refused",
        "spool": "CREATE TABLE",
        "questions": ESSAY,
    }
    for name, marks in marked.items():
        assert marks in outputs[name], f"{name} was not looked at"
    nowhere = (*CANARIES, PASSWORD)
    private = {"events": nowhere, "spool": nowhere, "questions": (PASSWORD, PUPIL, CALL)}
    found = {
        name: canary
        for name, text in outputs.items()
        for canary in private.get(name, (*nowhere, PUPIL))
        if canary in text.lower()
    }
    assert found == {}
