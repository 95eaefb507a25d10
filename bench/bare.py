"""The least that a route of this framework costs: JSON in, JSON out, on the same server with the same options."""

import sys

import orjson
import uvicorn
from quart import Quart, Response, request

from bench.question import COMPARISON_PATH

app = Quart(__name__, static_folder=None)


@app.post(COMPARISON_PATH)
async def compare() -> Response:
    """Read everything, say little."""
    question = orjson.loads(await request.get_data(cache=False))
    answer = {"winner": "Essay A", "metadata": question["metadata"]}
    return Response(orjson.dumps(answer), content_type="application/json")


@app.get("/readyz")
async def ready() -> Response:
    """It has started."""
    return Response("")


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )
