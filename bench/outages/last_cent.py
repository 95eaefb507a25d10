"""Two replicas are asked by many at once for a budget that is nearly empty: never more is bought than the limit."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.outages.callers import Callers
from bench.outages.figures import hold, show
from tests.integration.dialects import OPENAI
from tests.integration.redis_server import redis_server
from tests.integration.service_process import prefixed, service
from tests.integration.stand_in import answer, standing_in

LIMIT_USD = 0.05
REPLICAS = 2
BOUGHT, REFUSED = 200, 402


def last_cent(directory: Path, *, requests: int, rounds: int) -> None:
    """A stand-in upstream of known price; each round has new services and an empty Redis, then one round without it."""
    rows = []
    for place in [*(f"Redis, round {number + 1}" for number in range(rounds)), "no Redis"]:
        folder = directory / place.replace(" ", "-")
        folder.mkdir()
        statuses = asyncio.run(_raced(folder, requests, shared=place != "no Redis"))
        spent_usd = statuses["asked upstream"] * OPENAI.good_usd
        rows.append(
            (
                place,
                *(str(statuses[one]) for one in (str(BOUGHT), str(REFUSED), "other")),
                f"{spent_usd:.6f}",
                str(LIMIT_USD),
            )
        )
        hold(f"{place}: no more than the limit was spent", kept=spent_usd <= LIMIT_USD)
    show(f"{requests} requests at once, two replicas", ("", "200", "402", "other", "spent, $", "limit, $"), rows)


async def _raced(directory: Path, requests: int, *, shared: bool) -> Mapping[str, int]:
    async with standing_in(answer(OPENAI.good())) as provider:
        with ExitStack() as stack:
            settings = {"COST_LIMIT_USD_PER_DAY": str(LIMIT_USD), "REPLICAS": str(REPLICAS)}
            if shared:
                settings["REDIS_URL"] = stack.enter_context(redis_server(directory)).url
            variables = prefixed(**OPENAI.variables(provider.url), **settings, ENVIRONMENT="production")
            replicas = [
                await asyncio.to_thread(stack.enter_context, service(directory, variables)) for _ in range(REPLICAS)
            ]
            crowds = [Callers(requests // REPLICAS) for _ in replicas]
            await asyncio.gather(
                *(
                    crowd.ask(replica.port, range(place, requests, REPLICAS))
                    for place, (crowd, replica) in enumerate(zip(crowds, replicas, strict=True))
                )
            )
        told = Counter(str(one.status) for crowd in crowds for one in crowd.asked)
        others = told.total() - told[str(BOUGHT)] - told[str(REFUSED)]
        return told | Counter({"other": others, "asked upstream": len(provider.requests)})
