"""Puts load on a server and tells what became of it as a row."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.histograms import histogram, percentiles_ms
from bench.load import GRACE_S, Asked, Load, Samples
from bench.pace import Closed, Open
from bench.processes import HOST, Running
from bench.rows import Row
from bench.setups import Run
from bench.wire import overhead_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Seconds: before anything counts, and while it counts."""

    warm_s: float
    watched_s: float

    def times(self, factor: float) -> "Spans":
        """All of them longer, or shorter to try a command out."""
        return Spans(warm_s=factor * self.warm_s, watched_s=factor * self.watched_s)

    @property
    def whole_s(self) -> float:
        """How long an open load must have something to send: until the last answers are there, too."""
        return self.warm_s + self.watched_s + GRACE_S


SHORT = Spans(warm_s=1.0, watched_s=5.0)
FULL = Spans(warm_s=2.0, watched_s=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server under load, and the provider behind it. request: makes the bytes of the next question."""

    name: str
    server: Running
    provider: Running
    request: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What has been used up so far: processor seconds of the server and of the load, calls of the provider."""

    server_s: float
    load_s: float
    calls: int

    @classmethod
    async def of(cls, subject: Subject) -> "Reading":
        """Read it now."""
        return cls(
            server_s=subject.server.cpu_s(), load_s=time.process_time(), calls=await provider_calls(subject.provider)
        )


async def measured(subject: Subject, run: Run, spans: Spans, *, rate: float | None = None) -> Row:
    """Put one load on the server: rate requests a second, or as many as it takes."""
    pace = Closed() if rate is None else Open(rate=rate, seconds=spans.whole_s)
    asked = Asked(host=HOST, port=subject.server.port, connections=run.connections, request=subject.request)
    async with Load(asked, pace) as load:
        await asyncio.sleep(spans.warm_s)
        before = await Reading.of(subject)
        samples = load.watch(spans.watched_s)
        await asyncio.sleep(spans.watched_s)
        after = await Reading.of(subject)
        await load.settle()
        return _row(samples, before, after, name=subject.name, run=run, rate=rate, rss_mib=subject.server.rss_mib())


async def provider_calls(provider: Running) -> int:
    """How many questions the stand-in was asked."""
    return int(await provider_tells(provider, "/calls"))


async def provider_tells(provider: Running, path: str) -> bytes:
    """What the stand-in knows of the questions to it."""
    reader, writer = await asyncio.open_connection(HOST, provider.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    writer.close()
    return body


def _row(
    samples: Samples, before: Reading, after: Reading, *, name: str, run: Run, rate: float | None, rss_mib: float
) -> Row:
    latencies = histogram(1e6 * latency_s for latency_s in samples.latencies_s)
    overheads = histogram(overhead_us(times) for times in samples.times)
    return Row(
        setup=name,
        connections=run.connections,
        share=run.share,
        intended_rps=rate,
        achieved_rps=samples.answered / samples.elapsed_s,
        latency_ms=percentiles_ms(latencies),
        overhead_ms=percentiles_ms(overheads),
        cpu_s=1000 * (after.server_s - before.server_s) / max(1, samples.answered),
        rss_mib=rss_mib,
        seconds=samples.elapsed_s,
        requests=samples.due,
        statuses={str(status): count for status, count in sorted(samples.statuses.items())},
        upstream_calls=after.calls - before.calls,
        late=samples.late,
        waited=samples.waited,
        lost=samples.lost,
        load_cpu=(after.load_s - before.load_s) / samples.elapsed_s,
        histogram=latencies.encode().decode(),
    )
