"""Apache Kafka: one node in KRaft mode, broker and controller in one."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local.artifacts import Artifact, fetch
from deploy.local.errors import PlatformError
from deploy.local.ports import HOST
from deploy.local.processes import Launch
from deploy.local.runtimes import Java, find_java
from deploy.local.server import Server, Site

KAFKA = Artifact("kafka", Path(__file__).parent / "kafka" / "pom.xml", "copy-dependencies", "43 MB")
LOGGING = Path(__file__).parent / "kafka" / "log4j2.properties"
USUAL_PORT = 9092
USUAL_CONTROLLER_PORT = 9093
FORMAT_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 1.0
MAX_MESSAGE_BYTES = 10 * 1024 * 1024
# The serial collector and the first compiler only: half the memory and the start-up time of the defaults, which aim at servers.
JVM_OPTIONS = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={LOGGING}")


def server_properties(port: int, controller_port: int, log_dir: Path) -> str:
    """The broker's settings: a single node on the loopback address, which keeps one copy and creates no topic by itself."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": log_dir,
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 100,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        # The default of 128 MB would take a quarter of this heap.
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
        # A killed broker may come back when its last session has run out: not after the 9 s that guard a cluster against slow networks.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        "num.io.threads": 4,
        "num.network.threads": 2,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def new_cluster_id() -> str:
    """A random cluster id in Kafka's form: 16 bytes, base64 for URLs, without padding; never beginning with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def read_cluster_id(log_dir: Path) -> str | None:
    """The id of the cluster a formatted folder belongs to, None where it is not formatted."""
    properties = log_dir / "meta.properties"
    if not properties.exists():
        return None
    pairs = (line.partition("=") for line in properties.read_text().splitlines())
    return next((value.strip() for name, _, value in pairs if name.strip() == "cluster.id"), None)


class KafkaServer(Server):
    """Kafka from the cache (or from KAFKA_HOME), its log in `kafka/data`."""

    name = "kafka"
    ready_timeout_s = 90.0

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._jars: Path | None = None
        self._java: Java | None = None
        self._port = self._controller_port = 0
        self._cluster_id: str | None = None

    @property
    def address(self) -> str:
        """`host:port`, as clients take it."""
        return f"{HOST}:{self._port}"

    def prepare(self, say: Callable[[str], None]) -> None:
        self._java = find_java()
        self._jars = self._find_jars(self._java, say)
        data = self.home / "data"
        if read_cluster_id(data) is None:
            say("formatting the log folder")
            self._format(data)
        self._cluster_id = read_cluster_id(data)

    def _find_jars(self, java: Java, say: Callable[[str], None]) -> Path:
        if own := os.environ.get("KAFKA_HOME"):
            jars = Path(own) / "libs"
            if not jars.is_dir():
                raise PlatformError(f"KAFKA_HOME={own} has no folder libs", "unset KAFKA_HOME, then Kafka is fetched")
            return jars
        return fetch(KAFKA, java, self.site.processes, self.site.cache, say)

    def _format(self, data: Path) -> None:
        """Formats beside the real folder and renames, so that an interrupted one is not taken for done."""
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        properties = self.home / "format.properties"
        # The ports are asked for, though formatting listens nowhere.
        properties.write_text(server_properties(USUAL_PORT, USUAL_CONTROLLER_PORT, fresh))
        launch = Launch("kafka-format", self._java_argv("kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(properties)))
        done = self.site.processes.run(launch, FORMAT_TIMEOUT_S)
        if done.exit_code != 0:
            raise PlatformError(
                f"Kafka's log folder could not be formatted: {done.output[-300:]}", f"see {self.site.processes.log_path(launch.name)}"
            )
        shutil.rmtree(data, ignore_errors=True)
        fresh.rename(data)

    def _java_argv(self, *arguments: str) -> tuple[str, ...]:
        if self._java is None or self._jars is None:
            raise RuntimeError("prepare comes first")
        return (str(self._java.program), *JVM_OPTIONS, "-cp", f"{self._jars}/*", *arguments)

    def assign_ports(self) -> tuple[int, ...]:
        self._port = self.site.ports.assign("kafka", USUAL_PORT)
        self._controller_port = self.site.ports.assign("kafka-controller", USUAL_CONTROLLER_PORT)
        return self._port, self._controller_port

    def launch(self) -> Launch:
        properties = self.home / "server.properties"
        properties.write_text(server_properties(self._port, self._controller_port, self.home / "data"))
        return Launch(self.name, self._java_argv("kafka.Kafka", str(properties)), stop_signal=signal.SIGTERM, stop_timeout_s=30.0)

    def probe(self, pid: int) -> bool:
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0, "error_cb": _ignore})
        try:
            seen = client.list_topics(timeout=PROBE_TIMEOUT_S)
        except KafkaException:
            return False
        # A broker is listed once the controller has let it in; from then on topics can be made.
        return bool(seen.brokers) and seen.cluster_id == self._cluster_id


def _ignore(error: object) -> None:
    """Refused connections are what waiting for a server looks like."""
