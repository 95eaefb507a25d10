"""Many callers ask the same question at the same moment, and the provider should be asked once."""

import asyncio
from typing import Any

from bench.measuring import provider_calls
from bench.processes import HOST
from bench.question import comparison
from bench.setups import MISS
from bench.stage import Stage

CALLERS = 200
DELAY_MS = 500


async def burst(stage: Stage) -> dict[str, Any]:
    """Callers, all of whom were answered, and calls of the provider."""
    with stage.world(delay_ms=DELAY_MS) as world, stage.server(MISS, world) as server:
        question = comparison(headers={}, provider=MISS.provider, is_new=False)()
        statuses = await asyncio.gather(*(_status(server.port, question) for _ in range(CALLERS)))
        good_answers = statuses.count(b"200")
        if good_answers < CALLERS:
            raise SystemExit(f"{CALLERS - good_answers} of {CALLERS} callers who asked the same were not answered.")
        return {"callers": CALLERS, "upstream_calls": await provider_calls(world.provider)}


async def _status(port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(question)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head.split(b" ", 2)[1]
