"""Brokers that pass the lead on, refuse for a while and answer slowly: the order under a key stays, nothing doubles."""

from pathlib import Path
from uuid import uuid4

from tests.integration.events_on_kafka import (
    COMPLETED,
    COST,
    STARTED,
    TOPICS,
    ask,
    balances,
    is_empty,
    numbers,
    told,
    with_kafka,
)
from tests.integration.kafka_broker import mock_broker
from tests.integration.mock_cluster import Refusal
from tests.integration.service_process import service, wait_until

SLOW_MS = 300


def test_the_order_under_a_key_outlives_elections_refusals_and_slow_answers(tmp_path: Path) -> None:
    key = str(uuid4())
    with mock_broker() as broker:
        cluster = broker.cluster
        assert cluster is not None
        cluster.create(*TOPICS)  # before the service asks about them, upon which it would make them
        with service(tmp_path, with_kafka(broker.servers)) as running:
            ask(running, "leaders", 10, key=key)
            wait_until(lambda: is_empty(running))
            cluster.refuse(*[Refusal.LEADER_NOT_AVAILABLE, Refusal.NOT_LEADER, Refusal.NOT_ENOUGH_REPLICAS] * 3)
            ask(running, "leaders", 10, first=10, key=key)
            for leader in (1, 2, 3):
                cluster.elect(leader, *TOPICS)
                ask(running, "leaders", 10, first=10 + 10 * leader, key=key)
            cluster.slow_down(SLOW_MS)
            ask(running, "leaders", 30, first=50, key=key)
            wait_until(lambda: is_empty(running))
            assert balances(running)
            cluster.slow_down(0)
            messages = broker.read(STARTED, COMPLETED, COST, at_least=240)
    for topic in (STARTED, COMPLETED, COST):
        batch = told([one for one in messages if one.topic() == topic], "leaders")
        assert list(numbers(batch).elements()) == list(range(80))
