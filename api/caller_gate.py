"""Asks every request for a key before anything of its body is read; what needs none is named here, nothing else."""

from collections.abc import Sequence

from quart import Quart, Request, g, request

from api.peer import address_of, peer
from api.request_scope import asked_by
from api.shown_key import shown_key
from config import IPNetwork
from protocols import CallerAccessProtocol

OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"})
ADMIN_ROUTES = "/api/v1/admin/"  # each asks for its own key
API = "/api/"
READING = frozenset({"GET", "HEAD"})
TRIALS = frozenset({"llm.test_provider"})


def install(app: Quart, *, access: CallerAccessProtocol, trusted_proxies: Sequence[IPNetwork]) -> None:
    """Register the hook; the request's scope must be there before it."""

    async def identify() -> None:
        g.peer = address_of(request.remote_addr, request.headers, trusted_proxies)
        if needs_no_caller(request.path):
            return
        asked_by(access.identify(shown_key(request), peer=peer(), admin_may=_is_for_operators(request)))

    app.before_request(identify)


def needs_no_caller(path: str) -> bool:
    """What is not named is closed, whatever routes there will be."""
    return path in OPEN_PATHS or path.startswith(ADMIN_ROUTES)


def _is_for_operators(asked: Request) -> bool:
    """Reading, and trying a provider, buy no verdicts."""
    return asked.path.startswith(API) and (asked.method in READING or asked.endpoint in TRIALS)
