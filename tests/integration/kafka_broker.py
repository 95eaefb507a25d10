"""A Kafka broker for the tests: one that was given, Apache Kafka by Maven, or else the one inside confluent-kafka.

Apache Kafka is put together once, into the user's cache directory. The one inside confluent-kafka is librdkafka's
mock cluster: it speaks the protocol, but its topics appear by themselves and it lives in the process of the tests.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # its stubs forget to export it

from tests.integration.certificates import Certificate, certificate
from tests.integration.mock_cluster import MockCluster, mock_cluster
from tests.integration.service_process import PREFIX, free_port, wait_until

GIVEN = ("KAFKA_BOOTSTRAP_SERVERS", f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS")
VERSION = "4.1.1"
PARTITIONS = 3
START_TIMEOUT_S = 60.0
ASSEMBLY_TIMEOUT_S = 300
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
USER, PASSWORD = "service", "kanarienvogel"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
LISTENERS = {
    "PLAINTEXT": "PLAINTEXT",
    "SASL": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "BOTH": "SASL_SSL",
    "CONTROLLER": "PLAINTEXT",
}


@dataclass(kw_only=True)
class Broker:
    """servers: where it listens. makes_topics: whether topics appear by themselves.

    secured: by security protocol, where SASL wants USER and PASSWORD and SSL the certificate `ours`; theirs: its own.
    """

    servers: str
    name: str
    makes_topics: bool = False
    secured: Mapping[str, str] = field(default_factory=dict)
    ours: Certificate | None = None
    theirs: Certificate | None = None
    command: Sequence[str] = ()
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    cluster: MockCluster | None = None

    @property
    def can_die(self) -> bool:
        """Whether the tests may kill and restart it."""
        return self.can_stop or self.cluster is not None

    @property
    def can_stop(self) -> bool:
        """Whether it is a process of ours, which the tests may freeze as well."""
        return bool(self.command)

    def start(self) -> None:
        """Run it and wait until it answers."""
        if self.cluster is not None:
            self.cluster.come_back()
            return
        assert self.log is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        wait_until(self.answers, within_s=START_TIMEOUT_S)

    def kill(self) -> None:
        """Let it die without a farewell."""
        if self.cluster is not None:
            self.cluster.go_down()
            return
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def freeze(self) -> None:
        """Let it keep its connections and say nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # until the last of its threads stands still

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        """Whether it tells what it knows."""
        try:
            return bool(_admin(self.servers).list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False

    def create(self, *topics: str, settings: Mapping[str, str] | None = None) -> None:
        """Make the topics that are not there yet; the mock cluster makes its own."""
        if self.makes_topics:
            return
        admin = _admin(self.servers)  # what it is doing ends with it
        known = admin.list_topics(timeout=5.0).topics
        new = [NewTopic(topic, PARTITIONS, 1, config=dict(settings or {})) for topic in topics if topic not in known]
        for made in admin.create_topics(new).values() if new else ():
            made.result(timeout=20)

    def delete(self, *topics: str) -> None:
        """Take the topics away, and wait until they are gone."""
        admin = _admin(self.servers)
        for gone in admin.delete_topics(list(topics), operation_timeout=20).values():
            gone.result(timeout=20)
        wait_until(lambda: not set(topics) & set(admin.list_topics(timeout=5.0).topics), within_s=20.0)

    def read(self, *topics: str, at_least: int, within_s: float = 30.0) -> list[Message]:
        """Everything on these topics, as soon as it is so much; partition by partition, in order."""
        found: list[Message] = []
        give_up_at_s = time.monotonic() + within_s
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "tests", "enable.auto.commit": False})
        try:
            consumer.assign(list(self._places(topics)))
            while (batch := consumer.consume(500, 0.5)) or len(found) < at_least:
                found.extend(message for message in batch if message.error() is None)
                if time.monotonic() > give_up_at_s:
                    break
        finally:
            consumer.close()
        return found

    def _places(self, topics: Sequence[str]) -> Iterator[TopicPartition]:
        known = _admin(self.servers).list_topics(timeout=10.0).topics
        for topic in topics:
            if topic in known:
                yield from (TopicPartition(topic, number, 0) for number in known[topic].partitions)


@contextmanager
def broker(directory: Path, tell: Callable[[str], None]) -> Iterator[Broker]:
    """The best broker that there is. directory: takes its data; tell: takes the line that says which one it is."""
    given = next((os.environ[name] for name in GIVEN if os.environ.get(name)), None)
    if given:
        found = Broker(servers=given, name="the given Kafka")
        tell(f"Kafka for the tests: {found.name}")
        yield found
        return
    if shutil.which("mvn") and shutil.which("java"):
        with ExitStack() as stack:
            try:
                found = stack.enter_context(apache(directory, tell))
            except (OSError, subprocess.SubprocessError) as error:
                tell(f"No Apache Kafka for the tests: {error}")
            else:
                yield found
                return
    with mock_broker() as found:
        tell(f"Kafka for the tests: {found.name}")
        yield found


@contextmanager
def apache(directory: Path, tell: Callable[[str], None]) -> Iterator[Broker]:
    """Apache Kafka; directory and tell as above."""
    jars = _assembled(tell)
    ports = {listener: free_port() for listener in LISTENERS}
    ours, theirs = certificate(directory, "ours"), certificate(directory, "theirs")
    properties = directory / "server.properties"
    properties.write_text(_properties(directory / "data", ports, trusted=ours, own=theirs))
    classpath = f"{jars}/*"
    java = ("java", *JVM, "-cp", classpath)
    users = [f"--add-scram={name}=[name={USER},password={PASSWORD}]" for name in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties), *users],
        check=True,
        capture_output=True,
        timeout=60,
    )
    found = Broker(
        servers=f"127.0.0.1:{ports['PLAINTEXT']}",
        secured={LISTENERS[name]: f"127.0.0.1:{ports[name]}" for name in ("SASL", "TLS", "BOTH")},
        ours=ours,
        theirs=theirs,
        name=f"Apache Kafka {VERSION} by Maven",
        command=(*java, "kafka.Kafka", str(properties)),
        log=directory / "broker.log",
    )
    tell(f"Kafka for the tests: {found.name}")
    try:
        found.start()
        yield found
    finally:
        found.kill()


@contextmanager
def mock_broker() -> Iterator[Broker]:
    """The mock cluster inside confluent-kafka."""
    with mock_cluster() as cluster:
        yield Broker(
            servers=cluster.servers, name="the mock cluster inside confluent-kafka", makes_topics=True, cluster=cluster
        )


def _assembled(tell: Callable[[str], None]) -> Path:
    """The folder of jars; a folder that is there is complete, because it is renamed into its place."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-provider-service"
    jars = cache / f"kafka-{VERSION}"
    if jars.exists():
        return jars
    tell(f"Putting Apache Kafka {VERSION} together by Maven (once) ...")
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as work:
        Path(work, "pom.xml").write_text(POM)
        subprocess.run(
            ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"],  # noqa: S607  `which` found it
            cwd=work,
            check=True,
            timeout=ASSEMBLY_TIMEOUT_S,
        )
        if not jars.exists():
            Path(work, "libs").rename(jars)
    return jars


def _properties(data: Path, ports: Mapping[str, int], *, trusted: Certificate, own: Certificate) -> str:
    listeners = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
    return f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{ports["CONTROLLER"]}
listeners={",".join(listeners)}
advertised.listeners={",".join(one for one in listeners if not one.startswith("CONTROLLER"))}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map={",".join(f"{name}:{protocol}" for name, protocol in LISTENERS.items())}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
{_logins("sasl")}
{_logins("both")}
listener.name.tls.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={own.whole}
ssl.truststore.type=PEM
ssl.truststore.location={trusted.trusted}
log.dirs={data}
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


def _logins(listener: str) -> str:
    return f"""listener.name.{listener}.plain.sasl.jaas.config={PLAIN} required user_{USER}="{PASSWORD}";
listener.name.{listener}.scram-sha-256.sasl.jaas.config={SCRAM} required;
listener.name.{listener}.scram-sha-512.sasl.jaas.config={SCRAM} required;"""


def _admin(servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": servers, "log_level": 0})
