"""Measures one server under one load: a row from one window of time, or from several short ones."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.histograms import histogram, percentiles_ms
from bench.load import GRACE_S, Asked, Load, Samples
from bench.pace import Closed, Open
from bench.processes import HOST, Running
from bench.rows import Row, Slice
from bench.setups import Run
from bench.wire import overhead_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Seconds under load: before anything counts, and while it counts."""

    warm_s: float
    counted_s: float

    def times(self, factor: float) -> "Spans":
        """All of them longer, or shorter to try a command out."""
        return Spans(warm_s=factor * self.warm_s, counted_s=factor * self.counted_s)

    @property
    def whole_s(self) -> float:
        """How long an open load must have something to send: until the last answers are there, too."""
        return self.warm_s + self.counted_s + GRACE_S


SHORT = Spans(warm_s=1.0, counted_s=5.0)
FULL = Spans(warm_s=2.0, counted_s=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server under load, and the provider behind it. request: makes the bytes of the next question."""

    name: str
    server: Running
    provider: Running
    request: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was counted in one window of time. server_s, load_s: CPU time used in it, in seconds."""

    samples: Samples
    server_s: float
    load_s: float
    upstream_calls: int
    rss_mib: float

    @property
    def latencies_us(self) -> Iterable[float]:
        """Of every answer, in microseconds."""
        return (1e6 * latency_s for latency_s in self.samples.latencies_s)

    @property
    def slice(self) -> Slice:
        """Its figures as they are kept."""
        return Slice(
            began_s=self.samples.begin_s,
            seconds=self.samples.elapsed_s,
            answers=self.samples.answered,
            cpu_s=self.server_s,
            p50_ms=percentiles_ms(histogram(self.latencies_us)).get("p50"),
        )


async def measured(subject: Subject, run: Run, spans: Spans, *, rate: float | None = None, seed: int = 0) -> Row:
    """Apply one load to the server and count once. rate: requests per second, None for a closed loop."""
    return row_of(subject, run, [await counted(subject, run, spans, rate=rate, seed=seed)], rate=rate)


async def counted(subject: Subject, run: Run, spans: Spans, *, rate: float | None = None, seed: int = 0) -> Window:
    """Count one window; in a closed loop it begins and ends between two cohorts. seed: of the arrivals."""
    pace = Closed() if rate is None else Open(rate=rate, seconds=spans.whole_s, seed=seed)
    asked = Asked(host=HOST, port=subject.server.port, connections=run.connections, request=subject.request)

    async def whole_cohort() -> None:
        if rate is None:
            await load.whole_cohort()

    async with Load(asked, pace) as load:
        await asyncio.sleep(spans.warm_s)
        calls = await provider_calls(subject.provider)
        await whole_cohort()
        server_s, load_s = subject.server.cpu_s(), time.process_time()
        samples = load.watch(math.inf)
        await asyncio.sleep(spans.counted_s)
        await whole_cohort()
        load.end()
        server_s, load_s = subject.server.cpu_s() - server_s, time.process_time() - load_s
        calls = await provider_calls(subject.provider) - calls
        await load.settle()
    rss_mib = subject.server.rss_mib()
    return Window(samples=samples, server_s=server_s, load_s=load_s, upstream_calls=calls, rss_mib=rss_mib)


def row_of(subject: Subject, run: Run, windows: Sequence[Window], *, rate: float | None = None) -> Row:
    """All windows as one: sums, and one histogram of all latencies."""
    samples = [window.samples for window in windows]
    seconds, answers = sum(one.elapsed_s for one in samples), sum(one.answered for one in samples)
    latencies = histogram(latency_us for window in windows for latency_us in window.latencies_us)
    overheads = histogram(overhead_us(times) for one in samples for times in one.times)
    statuses = sorted({status for one in samples for status in one.statuses})
    return Row(
        setup=subject.name,
        connections=run.connections,
        share=run.share,
        intended_rps=rate,
        achieved_rps=answers / seconds,
        latency_ms=percentiles_ms(latencies),
        overhead_ms=percentiles_ms(overheads),
        cpu_ms=1000 * sum(window.server_s for window in windows) / max(1, answers),
        rss_mib=windows[-1].rss_mib,
        seconds=seconds,
        requests=sum(one.due for one in samples),
        statuses={str(status): sum(one.statuses.get(status, 0) for one in samples) for status in statuses},
        upstream_calls=sum(window.upstream_calls for window in windows),
        late=sum(one.late for one in samples),
        waited=sum(one.waited for one in samples),
        lost=sum(one.lost for one in samples),
        load_cpu=sum(window.load_s for window in windows) / seconds,
        histogram=latencies.encode().decode(),
        slices=[window.slice for window in windows],
    )


async def provider_calls(provider: Running) -> int:
    """How many questions the stub provider was asked."""
    return int(await look_up(provider, "/calls"))


async def look_up(provider: Running, path: str) -> bytes:
    """What the stub provider knows of the questions it was asked: the body of its answer."""
    reader, writer = await asyncio.open_connection(HOST, provider.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    writer.close()
    return body
