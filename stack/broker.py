"""The embedded Kafka: one KRaft node, broker and controller in one process."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from jvm import broker_classpath
from jvm.class_archive import archive_file, sharing, written_whole
from jvm.jars import BROKER
from jvm.java import java
from stack import process
from stack.state import Server, StackError, write_private

NAME = "Kafka"
_READY_SECONDS = 60
_STOP = ((signal.SIGTERM, 30.0),)
_PORT_ATTEMPTS = 3
# Without -Xms the heap begins with 1/64 of the machine's memory, and the broker fills it with garbage for an hour or
# more before it collects: to the eye, a leak. What lives in it is some 20 MB.
_HEAP = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC")
_LISTENERS = re.compile(r"^listeners=[A-Z_]+://127\.0\.0\.1:(\d+),CONTROLLER://127\.0\.0\.1:(\d+)$", re.MULTILINE)

# The topic is the demo's archive: it keeps everything. One partition is plenty for the internal topics.
# After a crash the node waits for its former self's session to end (default 9 s) before it comes back.
# `log.dirs` from the working directory on: it is a list, and a comma in a folder's name would make two of it.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners={protocol}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={protocol}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map={protocol}:{protocol},CONTROLLER:PLAINTEXT
inter.broker.listener.name={protocol}
log.dirs=data
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
message.max.bytes=2097152
log.retention.hours=-1
log.retention.bytes=-1
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
"""

# A listener of TLS and logins by SCRAM-SHA-512; the broker talks to itself through it too.
_SECURE_PROPERTIES = """\
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{username}" password="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
"""

_LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


@dataclass(frozen=True)
class Secure:
    """A broker that takes TLS and a login alone: its one user, its PEM file (PKCS #8 key and certificates), and that of
    the authority that signed it."""

    username: str
    password: str
    certificate: Path
    authority: Path


def data_folder(home: Path) -> Path:
    """Where the broker's data are, below a home."""
    return home / "kafka"


def log_file(home: Path) -> Path:
    """The broker's log, below a home."""
    return home / "log" / "kafka.log"


def running(home: Path, server: Server | None = None) -> psutil.Process | None:
    """The home's broker process, if it runs; `server` is what was recorded of it."""
    ending = ("kafka.Kafka", str(_properties_file(home)))
    return process.find(ending, server.pid if server else None, server.created if server else None)


def start(home: Path, server: Server | None = None, secure: Secure | None = None) -> Server:
    """The home's broker, running and taking requests; started if it does not run, on its last ports if free.

    `secure`: TLS and SCRAM in place of plain text, from the home's first start on. Raises StackError with the end
    of its log.
    """
    if found := running(home, server):
        port, _ = _last_ports(home) or (0, 0)
        return _when_ready(home, found, port)
    classpath = _joined_classpath()
    folder = data_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    process.delete_scratch(folder)
    temporary = _temporary(folder)
    shutil.rmtree(temporary, ignore_errors=True)  # what a broker that was killed has unpacked
    temporary.mkdir()
    _new_class_archive(folder).unlink(missing_ok=True)  # of a broker that was killed
    if not (folder / "data" / "meta.properties").is_file():
        _format(folder, classpath, secure)
    (folder / "log4j2.properties").write_text(_LOG4J)
    last = _last_ports(home) or (None, None)
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        port, controller_port = process.free_port(last[0]), process.free_port(last[1])
        write_private(_properties_file(home), _properties(port, controller_port, secure))
        command = [*_java_command(folder, classpath), "kafka.Kafka", str(_properties_file(home))]
        started = process.start(command, log_file(home), cwd=folder)
        try:
            return _when_ready(home, started, port)
        except StackError:
            taken = not process.alive(started) and not (process.is_free(port) and process.is_free(controller_port))
            if not taken or attempt == _PORT_ATTEMPTS:
                process.kill(started)
                raise
            last = (None, None)  # somebody took the port between our look and the broker's
    raise AssertionError("unreachable")


def stop(home: Path, server: Server | None = None) -> bool:
    """Stop the broker cleanly, or by force after 30 s. False if there was none."""
    found = running(home, server)
    if found is None:
        return False
    if process.stop(found, _STOP):
        _keep_class_archive(data_folder(home))
    return True


def _when_ready(home: Path, found: psutil.Process, port: int) -> Server:
    process.wait_until_ready(found, NAME, log_file(home), lambda: process.accepts(port), _READY_SECONDS)
    return Server(pid=found.pid, created=found.create_time(), port=port, log=log_file(home))


def _properties_file(home: Path) -> Path:
    return data_folder(home) / "server.properties"


def _last_ports(home: Path) -> tuple[int, int] | None:
    try:
        ports = _LISTENERS.search(_properties_file(home).read_text())
    except FileNotFoundError:
        return None
    return (int(ports[1]), int(ports[2])) if ports else None


def _properties(port: int, controller_port: int, secure: Secure | None = None) -> str:
    protocol = "SASL_SSL" if secure else "PLAINTEXT"
    properties = _PROPERTIES.format(port=port, controller_port=controller_port, protocol=protocol)
    if secure is None:
        return properties
    # within a quoted string of Java's login configuration
    password = secure.password.replace("\\", "\\\\").replace('"', '\\"')
    return properties + _SECURE_PROPERTIES.format(
        username=_as_property(secure.username),
        password=_as_property(password),
        certificate=_as_property(str(secure.certificate)),
        authority=_as_property(str(secure.authority)),
    )


def _as_property(value: str) -> str:
    r"""A value as Java's properties files have it: they are Latin-1, all else is \uXXXX, which JSON writes, too."""
    return json.dumps(value)[1:-1]


def _joined_classpath() -> str:
    return ":".join(map(str, broker_classpath()))


def _format(folder: Path, classpath: str, secure: Secure | None) -> None:
    """Format the storage beside its place, then move it there: a format cut short leaves none."""
    target = folder / "data"
    shutil.rmtree(target, ignore_errors=True)  # without meta.properties it holds nothing that was ever served
    with process.scratch_folder(folder) as scratch:
        _run_format(scratch, classpath, secure)
        (scratch / "data").rename(target)


def _run_format(scratch: Path, classpath: str, secure: Secure | None) -> None:
    properties = scratch / "format.properties"
    properties.write_text(_properties(process.free_port(), process.free_port()))
    # The letter keeps the id from starting with a hyphen, which the tool would take for an option.
    cluster_id = "K" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
    tool = subprocess.run(
        [
            *(str(java().home / "bin" / "java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
            *("-cp", classpath, "kafka.tools.StorageTool", "format", "--standalone"),
            *("-t", cluster_id, "-c", str(properties)),
            *(["--add-scram", f"SCRAM-SHA-512=[name={secure.username},password={secure.password}]"] if secure else []),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=scratch,
    )
    if tool.returncode != 0:
        raise StackError(f"Kafka's storage at {scratch / 'data'} cannot be formatted:\n{tool.stdout}{tool.stderr}")


def _temporary(folder: Path) -> Path:
    """Where its Java unpacks libraries; a broker that ends by a signal leaves them."""
    return folder / "tmp"


def _java_command(folder: Path, classpath: str) -> list[str]:
    return [
        *(str(java().home / "bin" / "java"), *_HEAP),
        *sharing(_class_archive(classpath), f"-XX:ArchiveClassesAtExit={_new_class_archive(folder)}"),
        f"-Dlog4j2.configurationFile={(folder / 'log4j2.properties').as_uri()}",
        f"-Djava.io.tmpdir={_temporary(folder)}",
        *("-cp", classpath),
    ]


def _class_archive(classpath: str) -> Path:
    return archive_file("kafka", BROKER.version, classpath)


def _new_class_archive(folder: Path) -> Path:
    """What the broker's Java writes as it ends; half of it where it was killed meanwhile."""
    return folder / "classes.jsa"


def _keep_class_archive(folder: Path) -> None:
    """Move the archive that a clean stop has just written, if it was to, into the cache."""
    new = _new_class_archive(folder)
    if new.is_file():
        with written_whole(_class_archive(_joined_classpath())) as beside:
            shutil.move(new, beside)  # perhaps from another disk, hence not at once over the old one
