"""Requires a caller key before the body is read; only the paths listed here need none."""

from collections.abc import Sequence
from functools import partial

from addresses import IPNetwork
from api.application import Application
from api.connection import ServiceRequest
from api.peer import address_of
from api.request_scope import attribute_to, current_scope
from api.shown_key import shown_key
from protocols import CallerAccessProtocol

OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"})
ADMIN_ROUTES = "/api/v1/admin/"  # each requires the administrator's key itself
API = "/api/"
READING = frozenset({"GET", "HEAD"})
PROVIDER_TESTS = frozenset({"llm.test_provider"})


def install(app: Application, *, access: CallerAccessProtocol, trusted_proxies: Sequence[IPNetwork]) -> None:
    """Authenticate every request of this application."""

    def identify(request: ServiceRequest) -> None:
        peer = current_scope().peer = partial(address_of, request.remote_addr, request.headers, trusted_proxies)
        if needs_no_caller(request.path):
            return
        attribute_to(access.identify(partial(shown_key, request), peer=peer, admin_may=_is_for_operators(request)))

    app.checked = identify


def needs_no_caller(path: str) -> bool:
    """Whether no caller key is needed; unlisted paths, future ones included, are closed."""
    return path in OPEN_PATHS or path.startswith(ADMIN_ROUTES)


def _is_for_operators(request: ServiceRequest) -> bool:
    """Whether the administrator's key suffices: for reading, and for testing a provider."""
    return request.path.startswith(API) and (request.method in READING or request.endpoint in PROVIDER_TESTS)
