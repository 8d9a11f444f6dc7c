"""The Spark session of the jobs: the same settings for all of them, the jars on its class path."""

from __future__ import annotations

import atexit
import os
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from conf.scratch import scratch
from conf.settings import Settings, SettingsError
from jvm.certificates import trust_store
from jvm.jars import spark_jars
from jvm.java import java_home
from jvm.logs import log_as_configured, log_options, own_output

_ROOT = Path(__file__).parents[1]
# Spark's own default, and what holds a DSN or the JAAS line of a Kafka client.
_REDACTED = "(?i)secret|password|passwd|token|access[.]?key|dsn|jaas|credential"
_DRIVER_OPTIONS = "spark.driver.extraJavaOptions"
_OF_S3 = "org.apache.hadoop.fs.s3a.S3AFileSystem"
_ON_EXECUTORS = ("conf", "mart", "streaming", "topic")  # the packages of what runs in the executors' Python


def spark_session(
    application: str, settings: Settings, extra: Mapping[str, str] | None = None, more_jars: Sequence[Path] = ()
) -> SparkSession:
    """Start Spark (or take the running session) with the Kafka and Delta jars, and `more_jars`.

    What `spark-submit` or SPARK_CONF_DIR set stands; `extra` adds to the defaults here. On a cluster the executors get
    the jars and our code from this driver. Raises SettingsError under a spark-submit without the jars.
    """
    os.environ["JAVA_HOME"] = str(java_home())
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Spark resolves the host's name to find its own address; on a laptop that may be slow or wrong.
    if settings.spark_master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:  # by spark-submit: read what it was given
        SparkContext._ensure_initialized()
    conf = SparkConf()
    temporary = _until_the_end(settings.scratch)
    defaults = {
        "spark.app.name": application,
        "spark.master": settings.spark_master,
        "spark.driver.memory": settings.spark_driver_memory,
        "spark.executor.memory": settings.spark_executor_memory,
        # A list: a comma in a folder's name would make two of it. SPARK_LOCAL_DIRS goes before it.
        "spark.local.dir": tempfile.gettempdir() if "," in str(temporary) else str(temporary),
        "spark.ui.enabled": str(bool(settings.spark_ui_port)).lower(),
        "spark.ui.port": str(settings.spark_ui_port),
        "spark.redaction.regex": _REDACTED,
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # What goes to a Python worker at once, beside 10,000 rows: records may have a megabyte each.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(8 * 1024**2),
        # What was unpacked and not read is kept no longer than it may be wanted (the default is five minutes).
        "spark.kafka.consumer.fetchedData.cache.timeout": "10s",
        "spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval": "5s",
        "spark.sql.streaming.stopTimeout": "30s",
        "spark.sql.streaming.minBatchesToRetain": "2",
        "spark.sql.streaming.numRecentProgressUpdates": "10",
        # The default manager forks a shell for each checkpoint file; this one halves the trigger.
        "spark.sql.streaming.checkpointFileManagerClass": (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        ),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "2",
    }
    if submitted:
        _require_jars(more_jars)
        defaults["spark.log.level"] = "ERROR"  # of what it says while it starts, before we can have our say
    elif settings.spark_master.startswith("local"):
        # In place of spark.jars, which copies every jar into a temporary folder at each start.
        defaults["spark.driver.extraClassPath"] = os.pathsep.join(map(str, [*spark_jars(), *more_jars]))
        defaults["spark.driver.bindAddress"] = "127.0.0.1"
    else:
        defaults["spark.jars"] = ",".join(map(str, [*spark_jars(), *more_jars]))
    for key, value in {**defaults, **(extra or {})}.items():
        conf.setIfMissing(key, value)
    if not submitted:  # spark-submit's JVM runs already
        ours = (f"-Djava.io.tmpdir={temporary}", *log_options(settings), *trust_store().options)
        conf.set(_DRIVER_OPTIONS, f"{' '.join(map(shlex.quote, ours))} {conf.get(_DRIVER_OPTIONS, '')}")
        if SparkContext._gateway is None:
            with own_output() as output, _temporary_files_in(temporary):
                gateway = launch_gateway(conf, {"stdout": output, "stderr": output})
            SparkContext._ensure_initialized(gateway=gateway)
    session = SparkSession.builder.config(conf=conf).getOrCreate()
    if submitted:
        log_as_configured(settings)
    if not str(session.sparkContext.master).startswith("local"):
        session.sparkContext.addPyFile(str(_zipped_code(temporary)))
    return session


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """For the block: pyspark writes its gateway's address and secret into a file, and a kill -9 would leave it."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@cache
def _until_the_end(parent: Path) -> Path:
    """A folder for all that Spark, its Java and the libraries unpacked by it write, as long as this process runs."""
    held = ExitStack()
    atexit.register(held.close)
    return held.enter_context(scratch(parent, "spark"))


def _zipped_code(folder: Path) -> Path:
    """Our code for the executors as a zip, so that they run what the driver runs, whatever is installed there."""
    code = folder / "code.zip"
    with zipfile.ZipFile(code, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in _ON_EXECUTORS:
            for source in sorted((_ROOT / package).glob("*.py")):
                archive.write(source, f"{package}/{source.name}")
    return code


def _require_jars(more_jars: Sequence[Path]) -> None:
    """spark-submit's JVM runs already: jars that it was not given cannot be added to the driver any more."""
    loader = SparkContext._jvm.java.lang.Thread.currentThread().getContextClassLoader()  # type: ignore[union-attr]
    needed = {
        "io.delta.sql.DeltaSparkSessionExtension": '"$(retail-mart jvm spark-jars)"',
        "org.apache.spark.sql.kafka010.KafkaSourceProvider": '"$(retail-mart jvm spark-jars)"',
    }
    if more_jars:
        needed[_OF_S3] = '"$(retail-mart jvm spark-jars),$(retail-mart jvm s3-jars)"'
    for name, jars in needed.items():
        try:
            loader.loadClass(name)
        except Py4JJavaError:
            raise SettingsError(f"spark-submit was not given the jar of {name}: add --jars {jars}") from None
