"""Asks every request for a key before anything of its body is read; what needs none is named here, nothing else."""

from collections.abc import Sequence
from functools import partial

from api.application import Application
from api.connection import ServiceRequest
from api.peer import address_of
from api.request_scope import asked_by, current_scope
from api.shown_key import shown_key
from config import IPNetwork
from protocols import CallerAccessProtocol

OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"})
ADMIN_ROUTES = "/api/v1/admin/"  # each asks for its own key
API = "/api/"
READING = frozenset({"GET", "HEAD"})
TRIALS = frozenset({"llm.test_provider"})


def install(app: Application, *, access: CallerAccessProtocol, trusted_proxies: Sequence[IPNetwork]) -> None:
    """Every request of this application is asked."""

    def identify(asked: ServiceRequest) -> None:
        peer = current_scope().peer = partial(address_of, asked.remote_addr, asked.headers, trusted_proxies)
        if needs_no_caller(asked.path):
            return
        asked_by(access.identify(partial(shown_key, asked), peer=peer, admin_may=_is_for_operators(asked)))

    app.checked = identify


def needs_no_caller(path: str) -> bool:
    """What is not named is closed, whatever routes there will be."""
    return path in OPEN_PATHS or path.startswith(ADMIN_ROUTES)


def _is_for_operators(asked: ServiceRequest) -> bool:
    """Reading, and trying a provider, buy no verdicts."""
    return asked.path.startswith(API) and (asked.method in READING or asked.endpoint in TRIALS)
