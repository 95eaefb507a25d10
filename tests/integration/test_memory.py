"""More questions at once than memory holds: those that fit are answered, the others turned away, the process lives."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path

from tests.integration.linux import needs_linux
from tests.integration.service_process import COMPARISON, Answer, ServiceProcess, mocked, service, wait_until

MIB = 1024 * 1024
POST_HEAD = f"POST {COMPARISON} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CALLERS = 40
ESSAY = "word after word " * 59_000  # two of them are nearly as large as a request may be
LIMIT_MIB = 64
SLOW = 8  # of 2 MiB: all of the quarter that is there for bodies
ALLOWED_MIB = 100  # beside what the idle service takes; all of them at once took 170


@needs_linux
def test_who_would_need_more_memory_than_is_left_is_told_to_come_again(tmp_path: Path) -> None:
    with service(tmp_path, mocked(MAX_REQUEST_MEMORY_MB=str(LIMIT_MIB), MOCK_LATENCY_MS="2000")) as running:
        idle_mib = _most_mib(running.process.pid)

        def ask(number: int) -> Answer:
            return running.compare(essay_a=f"{number} {ESSAY}", essay_b=ESSAY)

        with ThreadPoolExecutor(CALLERS) as callers:
            asked = [callers.submit(ask, number) for number in range(CALLERS)]
            wait_until(lambda: MIB < _taken_bytes(running, "answering") < LIMIT_MIB * MIB)
            answers = [one.result(timeout=30) for one in asked]
        most_mib = _most_mib(running.process.pid)
        metrics = running.ask("/metrics").text.splitlines()
        assert {_taken_bytes(running, phase) for phase in ("reading", "answering")} == {0}
        alone = ask(CALLERS)

    refusals = [answer for answer in answers if answer.status != HTTPStatus.OK]
    assert 0 < len(refusals) < CALLERS
    assert {answer.status for answer in refusals} == {HTTPStatus.SERVICE_UNAVAILABLE}
    assert {(answer.json()["error_type"], answer.headers["retry-after"]) for answer in refusals} == {
        ("SERVICE_UNAVAILABLE", "1")
    }
    assert f'llm_provider_shed_total{{provider="none",reason="memory"}} {len(refusals)}.0' in metrics
    assert alone.status == HTTPStatus.OK
    assert most_mib - idle_mib < ALLOWED_MIB


def test_who_sends_slowly_keeps_only_others_who_send_much_from_being_answered(tmp_path: Path) -> None:
    with service(tmp_path, mocked(MAX_REQUEST_MEMORY_MB=str(LIMIT_MIB), BODY_TIMEOUT_S="60")) as running:
        with ExitStack() as slow:
            for number in range(SLOW):
                plain = slow.enter_context(running.connected())
                plain.sendall(f"{POST_HEAD}Content-Length: {2 * MIB}\r\n\r\n".encode() + b"x" * (2 * MIB - 1))
                wait_until(partial(_has_taken, running, (number + 1) * 1.9 * MIB))
            usual, large = running.compare(), running.compare(essay_a=ESSAY, essay_b=ESSAY)
        wait_until(lambda: _taken_bytes(running, "reading") == 0)
        later = running.compare(essay_a=ESSAY, essay_b=ESSAY)

    assert [answer.status for answer in (usual, large, later)] == [200, 503, 200]


def _taken_bytes(running: ServiceProcess, phase: str) -> float:
    """What the service says that it set apart."""
    name = f'llm_provider_request_memory_bytes{{phase="{phase}"}}'
    return float(running.ask("/metrics").text.partition(f"\n{name} ")[2].split()[0])


def _has_taken(running: ServiceProcess, least_bytes: float) -> bool:
    return _taken_bytes(running, "reading") > least_bytes


def _most_mib(process: int) -> float:
    """The most memory that it ever held."""
    told = Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0]
    return int(told) * 1024 / MIB
