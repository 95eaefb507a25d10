"""The cache's statistics and the administrator's route over HTTP, without any Redis."""

from typing import Any

import orjson
import pytest
from quart.typing import TestClientProtocol as Client

from api_models import CacheMode
from implementations.access.wrong_keys import MOST_FAILURES
from implementations.cache_manager_impl import CacheManagerImpl
from protocols import CacheStatistics, TierStatistics
from tests.integration.contract import compare, content, mocked, refusal, serving

KEY = "kanarienvogel-of-the-administrator"
CLEAR = "/api/v1/admin/cache/clear"
STATS = "/api/v1/cache/stats"


async def clear(client: Client, **headers: str) -> Any:
    return await client.post(CLEAR, headers=headers)


@pytest.mark.parametrize(
    "variables", [{}, {"ADMIN_API_KEY": KEY[:23]}, {"ADMIN_API_KEY": KEY, "ADMIN_API_ENABLED": "false"}]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_key_in_force_there_are_no_admin_routes(
    variables: dict[str, str], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(mocked(monkeypatch, **variables)) as client:
        response = await getattr(client, method.lower())(CLEAR, headers={"X-API-Key": KEY[:23]})
        await refusal(response, 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("variables", "lines_told"), [({}, 1), ({"ADMIN_API_KEY": KEY}, 0), ({"ADMIN_API_ENABLED": "false"}, 0)]
)
async def test_a_line_says_that_the_admin_routes_are_absent(
    variables: dict[str, str], lines_told: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(mocked(monkeypatch, ENVIRONMENT="production", **variables)):
        pass
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(line["event"] == "admin_routes_absent" for line in lines) == lines_told


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}])
async def test_the_key_clears_the_cache(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY)) as client:
        await compare(client)
        assert (await compare(client)).headers["X-Cache"] == "HIT"
        response = await clear(client, **headers)
        assert response.status_code == 200
        assert await content(response) == {"cleared": True, "everywhere": True, "generation": 1}
        assert (await compare(client)).headers["X-Cache"] == "MISS"


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": "\xfc" * 30}]
)
async def test_nobody_else_clears_it(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY)) as client:
        await compare(client)
        response = await clear(client, **headers)
        await refusal(response, 401, "AUTHENTICATION_ERROR")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await compare(client)).headers["X-Cache"] == "HIT"


async def test_who_tries_wrong_keys_has_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY)) as client:
        for _ in range(MOST_FAILURES):
            await refusal(await clear(client, **{"X-API-Key": "wrong"}), 401, "AUTHENTICATION_ERROR")
        response = await clear(client, **{"X-API-Key": KEY})
        body = await refusal(response, 429, "RATE_LIMIT")
        assert 0 < body["retry_after"] <= 60


async def test_the_statistics_tell_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch)) as client:
        empty = await content(await client.get(STATS))
        for _ in range(4):
            await compare(client)
        told = await content(await client.get(STATS))
    assert (empty["hits"], empty["misses"], empty["hit_rate"]) == (0, 0, 0.0)
    assert (told["hits"], told["misses"], told["hit_rate"], told["saved_usd"]) == (3, 1, 0.75, 0.0)
    assert (told["cache_mode"], told["generation"], told["redis"]) == ("healthy", 0, None)
    size_bytes = told["local"].pop("size_bytes")
    assert size_bytes > 0
    assert told["local"] == {"hits": 3, "misses": 1, "hit_rate": 0.75, "stores": 1, "evictions": 0, "entries": 1}


async def test_every_figure_is_shown_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    known = CacheStatistics(
        mode=CacheMode.DEGRADED,
        generation=3,
        hits=30,
        misses=10,
        saved_usd=0.25,
        local=TierStatistics(hits=1, misses=3, stores=5, evictions=6, entries=7, size_bytes=8),
        redis=TierStatistics(hits=4, misses=1, stores=9, evictions=None, entries=None, size_bytes=None),
    )
    monkeypatch.setattr(CacheManagerImpl, "statistics", lambda _: known)
    async with serving(mocked(monkeypatch)) as client:
        assert await content(await client.get(STATS)) == {
            "cache_mode": "degraded",
            "generation": 3,
            "hits": 30,
            "misses": 10,
            "hit_rate": 0.75,
            "saved_usd": 0.25,
            "local": {
                "hits": 1,
                "misses": 3,
                "hit_rate": 0.25,
                "stores": 5,
                "evictions": 6,
                "entries": 7,
                "size_bytes": 8,
            },
            "redis": {
                "hits": 4,
                "misses": 1,
                "hit_rate": 0.8,
                "stores": 9,
                "evictions": None,
                "entries": None,
                "size_bytes": None,
            },
        }
