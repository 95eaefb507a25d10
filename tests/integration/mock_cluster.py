"""Three Kafka brokers inside this process: librdkafka's mock cluster, whose leaders, answers and speed a test steers.

The confluent-kafka wheel brings the library; its Python module does not offer these calls.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import confluent_kafka

BROKERS = 3
PARTITIONS = 3
PRODUCER = 0
NOBODY = -1
PRODUCE = 0  # the protocol's number of that request


class Refusal(IntEnum):
    """Codes of the Kafka protocol."""

    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER = 6
    NOT_ENOUGH_REPLICAS = 19


class MockCluster:
    """servers: where it listens."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle
        self.servers: str = library.rd_kafka_mock_cluster_bootstraps(handle).decode()

    def create(self, *topics: str) -> None:
        """Make the topics."""
        for topic in topics:
            made = self._library.rd_kafka_mock_topic_create(self._handle, topic.encode(), PARTITIONS, BROKERS)
            assert made == 0

    def elect(self, broker: int, *topics: str) -> None:
        """Let this broker, from 1 on, or NOBODY lead all partitions; the others say that they do not."""
        for topic in topics:
            for partition in range(PARTITIONS):
                name = topic.encode()
                assert self._library.rd_kafka_mock_partition_set_leader(self._handle, name, partition, broker) == 0

    def refuse(self, *answers: Refusal) -> None:
        """Answer the next messages with these, one after the other."""
        codes = (ctypes.c_int * len(answers))(*answers)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._handle, ctypes.c_int16(PRODUCE), ctypes.c_size_t(len(answers)), codes
        )

    def slow_down(self, milliseconds: int) -> None:
        """Let every answer take so long."""
        for broker in range(1, BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_rtt(self._handle, broker, milliseconds)

    def go_down(self) -> None:
        """Let all brokers die, with what they know in their memory."""
        for broker in range(1, BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_down(self._handle, broker)

    def come_back(self) -> None:
        """Let them listen again."""
        for broker in range(1, BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_up(self._handle, broker)


@contextmanager
def mock_cluster() -> Iterator[MockCluster]:
    """Run it until the block ends."""
    library = _library()
    text = ctypes.create_string_buffer(512)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"log_level", b"0", text, len(text))
    client = ctypes.c_void_p(library.rd_kafka_new(PRODUCER, settings, text, len(text)))
    assert client, text.value
    handle = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(client, BROKERS))
    try:
        yield MockCluster(library, handle)
    finally:
        library.rd_kafka_mock_cluster_destroy(handle)
        library.rd_kafka_destroy(client)


def _library() -> ctypes.CDLL:
    package = Path(confluent_kafka.__file__).parent
    beside = (package.with_name("confluent_kafka.libs"), package / ".dylibs")
    library = ctypes.CDLL(str(next(path for folder in beside for path in folder.glob("librdkafka*"))))
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library
