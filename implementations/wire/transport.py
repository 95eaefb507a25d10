"""The HTTP client: pooled connections, no redirects, bounded bodies. Callers set the timeouts, except for connecting.

It knows neither JSON nor dialects. aiohttp's exceptions leave it as a ProviderError, which `failures.py` chooses.
"""

import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
from yarl import URL

from exceptions import UnreadableReplyError
from implementations.resilience.call import current_call
from implementations.wire.connector import TCP_KEEPIDLE_S, Connector, Question, Stream, reused_streams
from implementations.wire.failures import failure_of_exchange, without_frames
from value_object import value_object

MAX_BODY_BYTES = 4 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
REQUEST_IDS = ("request-id", "x-request-id")  # Anthropic's; that of OpenAI and of many self-hosted servers
PLAIN_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
STALE_WITHIN_S = 1.0  # a break later than this may be that of a question which the provider was answering
UNACKNOWLEDGED = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})  # of a question that never arrived


@value_object
class WireReply:
    """A response, completely read.

    headers: case-insensitive; the first of a repeated one. received_at_s: epoch seconds, by our clock.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at_s: float


class Transport:
    """The client of all providers. trusts_environment: use the proxies of HTTPS_PROXY and the like.

    on_stale_connection: called for each pooled connection that turned out to be dead. trace_headers: propagate the
    trace context. now: the UTC wall clock.
    """

    def __init__(
        self,
        *,
        trusts_environment: bool,
        on_stale_connection: Callable[[], None] = lambda: None,
        trace_headers: Callable[[], Mapping[str, str]] = dict,
        now: Callable[[], datetime],
    ) -> None:
        self._trusts_environment = trusts_environment
        self._on_stale_connection = on_stale_connection
        self._trace_headers = trace_headers
        self._now = now
        self._pool: _Pool | None = None
        self._retired: set[_Pool] = set()

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> WireReply:
        """One exchange, without a total timeout. Raises a ProviderError if no complete answer came.

        A pooled connection that the server had closed meanwhile breaks at once, one that the network had dropped when
        nothing is acknowledged in time. Neither is a provider failure: the exchange is repeated, but only once per
        comparison, and on a new connection: the others that were pooled may have been closed as well.
        """
        exchange = _Exchange(
            method=method, url=URL(url, encoded=True), headers={**headers, **self._trace_headers()}, body=body
        )
        call = current_call()
        clock, record = call.deadline.clock, call.record
        sent_s = clock()
        pool = self._open_pool()
        try:
            try:
                return await self._perform(exchange, pool)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # From TCP_KEEPIDLE_S on the system says the same of whoever had the question and is there no longer.
                arrived_by_s = TCP_KEEPIDLE_S if getattr(error, "errno", None) in UNACKNOWLEDGED else STALE_WITHIN_S
                is_unanswered = clock() - sent_s < arrived_by_s
                if not (exchange.got_only_silence and is_unanswered) or record.replaced_connection:
                    raise
                record.replaced_connection = True
                self._on_stale_connection()
                await self._retire(pool)
                return await self._perform(exchange, self._open_pool())
        except (aiohttp.ClientError, OSError) as error:
            raise failure_of_exchange(without_frames(error)) from None

    async def _perform(self, exchange: "_Exchange", pool: "_Pool") -> WireReply:
        reused_streams.set(exchange.reused)
        pool.exchanges += 1
        try:
            async with pool.session.request(
                exchange.method, exchange.url, headers=exchange.headers, data=exchange.body, allow_redirects=False
            ) as response:
                current_call().record.provider_request_id = _request_id(response.headers)
                return WireReply(
                    status=response.status,
                    headers=response.headers,
                    body=await _read_bounded(response),
                    received_at_s=self._now().timestamp(),
                )
        finally:
            pool.exchanges -= 1
            if pool in self._retired:
                await self._close_if_unused(pool)

    async def close(self) -> None:
        """Close every connection."""
        for pool in filter(None, (self._pool, *self._retired)):
            await pool.session.close()

    async def _retire(self, pool: "_Pool") -> None:
        """Use no connection of this pool again; its other exchanges go on."""
        if pool is self._pool:
            self._pool = None
            self._retired.add(pool)
            await self._close_if_unused(pool)

    async def _close_if_unused(self, pool: "_Pool") -> None:
        if not pool.exchanges:
            self._retired.discard(pool)
            await pool.session.close()

    def _open_pool(self) -> "_Pool":
        """The pool in use, created on first use because aiohttp needs a running loop."""
        if self._pool is None:
            session = aiohttp.ClientSession(
                connector=Connector(),
                request_class=Question,
                trust_env=self._trusts_environment,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
            )
            self._pool = _Pool(session=session)
        return self._pool


@dataclass(slots=True, kw_only=True, eq=False)
class _Pool:
    """A session's connections, and the number of exchanges in progress on them."""

    session: aiohttp.ClientSession
    exchanges: int = 0


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """A request and its progress."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None
    reused: list[Stream] = field(default_factory=list)

    @property
    def got_only_silence(self) -> bool:
        """It went out on a pooled connection, on which not a byte came back."""
        return bool(self.reused) and self.reused[-1].is_silent


def _request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own name for the exchange, which its support asks for; None if there is none fit for a log."""
    found = next((headers[name] for name in REQUEST_IDS if name in headers), "")
    return found if PLAIN_ID.fullmatch(found) else None


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body after decompression, which aiohttp does in chunks. Raises UnreadableReplyError beyond the bound.

    An oversized body of an error response is dropped; its status and headers are kept.
    """
    body = bytearray()
    while chunk := await response.content.read(CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            if response.ok:
                raise UnreadableReplyError("the answer is larger than 4 MiB")
            return b""
    return bytes(body)
