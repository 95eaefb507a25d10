"""More callers than there is room for: the room is used, the others are told to come again, then all is as before."""

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

from tests.integration.pointed_service import ERROR_KEYS
from tests.integration.service_process import Answer, ServiceProcess, mocked, service, wait_until

SLOTS = 4  # and as many may wait
CALLERS = 40
REASONS = {"queue_full": "the wait queue is full", "queue_timeout": "no slot became free in time"}
PROBES = ("/livez", "/readyz", "/healthz", "/metrics")


def test_who_finds_no_room_is_told_to_come_again_and_nobody_after_him(tmp_path: Path) -> None:
    with service(tmp_path, mocked(MAX_IN_FLIGHT_REQUESTS=str(SLOTS), MOCK_LATENCY_MS="700")) as running:

        def ask(number: int) -> Answer:
            return running.compare(replicate=number)

        with ThreadPoolExecutor(CALLERS) as callers:
            asked = [callers.submit(ask, number) for number in range(CALLERS)]
            wait_until(lambda: counted(running, "in_flight_requests") == SLOTS)
            probed = [running.ask(path).status for path in PROBES]
            answers = [one.result(timeout=30) for one in asked]
            served = [answer for answer in answers if answer.status == HTTPStatus.OK]
            refused = [answer for answer in answers if answer.status != HTTPStatus.OK]
            assert counted(running, "shed_total") == len(refused)
            for reason, details in REASONS.items():
                told = [answer for answer in refused if answer.json()["details"] == details]
                assert counted(running, f'shed_total{{provider="none",reason="{reason}"}}') == len(told)
            assert counted(running, "upstream_attempts_total") == len(served)
            assert counted(running, "in_flight_requests") == counted(running, "admission_queue_requests") == 0
            later = list(callers.map(ask, range(CALLERS, CALLERS + 2 * SLOTS)))
            assert counted(running, "shed_total") == len(refused)

    assert probed == [HTTPStatus.OK] * len(PROBES)
    assert len(served) >= SLOTS
    assert REASONS["queue_full"] in {answer.json()["details"] for answer in refused}
    assert len({answer.json()["correlation_id"] for answer in answers}) == CALLERS
    for answer in refused:
        is_told_to_come_again(answer)
    assert {answer.status for answer in later} == {HTTPStatus.OK}


def is_told_to_come_again(answer: Answer) -> None:
    body = answer.json()
    assert (answer.status, body["error_type"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert set(body) == ERROR_KEYS
    assert body["provider"] is None
    assert body["correlation_id"] == answer.headers["x-correlation-id"]
    assert body["retry_after"] == int(answer.headers["retry-after"]) >= 1


def counted(running: ServiceProcess, name: str) -> float:
    """All that the service counts under names that begin like this."""
    lines = running.ask("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"llm_provider_{name}"))
