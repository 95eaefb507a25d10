"""What a route of this framework costs: JSON in, JSON out, on the same server with the same options.

Of three kinds: plain, as Quart's documentation writes one, in a process that nobody tuned; lean, which is the least;
and, given a provider's URL, a lean one that passes the question on with the same client: the least that asking costs.
The lean ones run with the garbage collector and the server set as in `app.py`. None checks anything, keeps anything or
is bounded in time.
"""

import sys

import aiohttp
import orjson
import uvicorn
from quart import Quart, Response, request

from bench.question import COMPARISON_PATH
from implementations.background.garbage_collection import tune_garbage_collection

app = Quart(__name__, static_folder=None)


async def plain() -> dict[str, object]:
    """Read everything, say little."""
    question = await request.get_json()
    return {"winner": "Essay A", "metadata": question["metadata"]}


async def lean() -> Response:
    """The same, past Quart's own JSON."""
    question = orjson.loads(await request.get_data(cache=False))
    answer = {"winner": "Essay A", "metadata": question["metadata"]}
    return Response(orjson.dumps(answer), content_type="application/json")


class PassingOn:
    """To a chat completion's URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        """Aiohttp wants a running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()

    async def compare(self) -> Response:
        """Read everything, ask, and give back the answer as it came."""
        question = orjson.loads(await request.get_data(cache=False))
        texts = (question[name] for name in ("user_prompt", "essay_a", "essay_b"))
        body = orjson.dumps({"model": "any", "messages": [{"role": "user", "content": text} for text in texts]})
        headers = {"Content-Type": "application/json", "Authorization": "Bearer key-of-the-benchmark"}
        async with self._session.post(self._url, data=body, headers=headers) as response:
            answer = orjson.loads(await response.read())
        return Response(orjson.dumps(answer), content_type="application/json")


@app.get("/readyz")
async def ready() -> Response:
    """It has started."""
    return Response("")


def main(port: int, kind: str, *url: str) -> None:
    """Serve."""
    is_plain = kind == "plain"
    if not is_plain:
        app.before_serving(tune_garbage_collection)
    if url:
        passing_on = PassingOn(*url)
        app.before_serving(passing_on.open)
        app.after_serving(passing_on.close)
        app.post(COMPARISON_PATH)(passing_on.compare)
    else:
        app.post(COMPARISON_PATH)(plain if is_plain else lean)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=is_plain,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], *sys.argv[3:])
