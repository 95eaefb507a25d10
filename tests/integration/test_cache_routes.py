"""The cache over HTTP, without any Redis: an answer's age, the statistics, the administrator's route."""

import pytest

from tests.integration.contract import ADMIN, KEY, compare, content, mocked, serving
from tests.integration.pointed_service import running

STATS = "/api/v1/cache/stats"


async def test_the_administrator_clears_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY)) as client:
        await compare(client)
        assert (await compare(client)).headers["X-Cache"] == "HIT"
        response = await client.post(f"{ADMIN}/cache/clear", headers={"X-API-Key": KEY})
        assert response.status_code == 200
        assert await content(response) == {"cleared": True, "everywhere": True, "generation": 1}
        assert (await compare(client)).headers["X-Cache"] == "MISS"


async def test_a_known_answer_tells_how_long_ago_it_was_bought_in_whole_seconds() -> None:
    async with running(USE_MOCK_LLM="true", MOCK_ERROR_RATE="0") as service:
        await compare(service.client)
        service.clock.advance(61.9)
        known = await compare(service.client)
    assert (known.headers["X-Cache"], known.headers["Age"]) == ("HIT", "61")


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
