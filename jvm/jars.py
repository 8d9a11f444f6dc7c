"""The jars that Spark and the broker need beside what pyspark carries, fetched once by pyspark's own Ivy."""

from __future__ import annotations

import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

import pyspark
from filelock import FileLock
from rich.console import Console

from conf.errors import OperatorError
from conf.settings import settings
from jvm.certificates import trust_store
from jvm.java import java_home


class Coordinate(NamedTuple):
    """A Maven artifact."""

    organisation: str
    name: str
    version: str


CONNECTOR = Coordinate("org.apache.spark", "spark-sql-kafka-0-10_2.13", "4.2.0")
DELTA = Coordinate("io.delta", "delta-spark_4.2_2.13", "4.4.0")
BROKER = Coordinate("org.apache.kafka", "kafka_2.13", "4.3.1")
# The broker logs through slf4j 1.7 and names no backend of it: without this one it is mute.
BROKER_LOG = Coordinate("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4")

# Hadoop's own way to S3, of Spark's Hadoop version, and of the AWS SDK that it was built with only what reading takes:
# the `bundle` that it names is 686 MB of every service.
S3 = (
    Coordinate("org.apache.hadoop", "hadoop-aws", "3.5.0"),
    Coordinate("software.amazon.awssdk", "s3", "2.35.4"),
    Coordinate("software.amazon.awssdk", "s3-transfer-manager", "2.35.4"),
    Coordinate("software.amazon.awssdk", "sts", "2.35.4"),
    Coordinate("software.amazon.awssdk", "apache-client", "2.35.4"),
    Coordinate("software.amazon.s3.analyticsaccelerator", "analyticsaccelerator-s3", "1.3.1"),
)

# Families of which Spark carries its own member, under the same artifact name or another one.
SPARK_FAMILIES = (
    "hadoop-client*",
    "scala-library",
    "scala-reflect",
    "slf4j*",
    "log4j*",
    "jackson-*",
    "commons-logging",
    "parquet-*",
    "shims",
)

_ERROR_LINES = 15


class JarDownloadError(OperatorError):
    """Ivy could not fetch the jars; the message holds Ivy's last lines and the fix."""


class JarSet(NamedTuple):
    """Jars that are fetched together into one folder of the cache."""

    folder: str
    purpose: str
    coordinates: tuple[Coordinate, ...]
    excluded: tuple[str, ...] = ()


def artifact_name(file_name: str) -> str:
    """`zstd-jni-1.5.7-3.jar` → `zstd-jni`: the name before the first hyphen that a `number.` follows."""
    match = re.match(r"(.+?)-\d+\..*\.jar$", file_name)
    return match[1] if match else file_name.removesuffix(".jar")


def missing_from_spark(fetched: Iterable[str], carried: Iterable[str]) -> list[str]:
    """Of the fetched jars' file names those that double nothing that Spark carries, by artifact or family."""
    names = {artifact_name(jar) for jar in carried}
    return sorted(
        jar
        for jar in fetched
        if artifact_name(jar) not in names and not any(fnmatch(artifact_name(jar), family) for family in SPARK_FAMILIES)
    )


def _pyspark_jars() -> Path:
    return Path(pyspark.__file__).parent / "jars"


def _carried() -> list[str]:
    return [jar.name for jar in _pyspark_jars().glob("*.jar")]


def _excluded() -> tuple[str, ...]:
    return (*SPARK_FAMILIES, *sorted({artifact_name(jar) for jar in _carried()}))


def _spark_set() -> JarSet:
    return JarSet(
        f"spark-{CONNECTOR.version}-delta-{DELTA.version}",
        "Spark's Kafka connector and Delta",
        (CONNECTOR, DELTA),
        _excluded(),
    )


def _broker_set() -> JarSet:
    return JarSet(f"kafka-{BROKER.version}", "the Kafka broker", (BROKER, BROKER_LOG))


def _s3_set() -> JarSet:
    hadoop, sdk = S3[:2]
    return JarSet(
        f"hadoop-aws-{hadoop.version}-sdk-{sdk.version}",
        "Spark's way to S3",
        S3,
        ("bundle", "wildfly-openssl*", *_excluded()),
    )


def ivy_module(jar_set: JarSet) -> str:
    """The ivy.xml that asks for a set: its artifacts with what they need, less what is excluded."""
    dependencies = "\n".join(
        f"<dependency org={quoteattr(c.organisation)} name={quoteattr(c.name)} rev={quoteattr(c.version)} "
        'conf="default->default"/>'
        for c in jar_set.coordinates
    )
    excludes = "\n".join(f'<exclude module={quoteattr(module)} matcher="glob"/>' for module in jar_set.excluded)
    return f"""<ivy-module version="2.0">
<info organisation="retail-mart" module="jars"/>
<configurations><conf name="default"/></configurations>
<dependencies>
{dependencies}
{excludes}
</dependencies>
</ivy-module>
"""


def _proxy_properties() -> list[str]:
    """Java does not read HTTPS_PROXY; say it the way Java understands."""
    properties = []
    proxies = urllib.request.getproxies()
    for scheme in ("http", "https"):
        proxy = urlsplit(proxies.get(scheme, ""))
        if proxy.hostname:
            properties += [
                f"-D{scheme}.proxyHost={proxy.hostname}",
                f"-D{scheme}.proxyPort={proxy.port or 80}",
            ]
    if direct := _direct_hosts(proxies.get("no", "")):
        properties.append(f"-Dhttp.nonProxyHosts={direct}")  # of https, too
    return properties


def _direct_hosts(no_proxy: str) -> str:
    """NO_PROXY in Java's words. A name there stands for the hosts below it, too. Java's own default stays in force."""
    names = [name.strip().lstrip(".").removeprefix("*.") for name in no_proxy.split(",") if name.strip()]
    hosts = [host for name in names for host in ((name,) if name == "*" else (name, f"*.{name}"))]
    return "|".join(["localhost", "127.*", "[::1]", *hosts]) if hosts else ""


def _retrieve(jar_set: JarSet, scratch: Path) -> Path:
    """Run Ivy in a scratch folder; the folder of the jars."""
    module = scratch / "ivy.xml"
    module.write_text(ivy_module(jar_set))
    jars = scratch / "jars"
    mirror = settings().ivy_settings
    trusted = trust_store()
    command = [
        str(java_home() / "bin" / "java"),
        *trusted.options,
        *_proxy_properties(),
        "-cp",
        str(_pyspark_jars() / "*"),
        "org.apache.ivy.Main",
        *(["-settings", str(mirror)] if mirror else []),
        *["-cache", str(scratch / "cache"), "-ivy", str(module), "-confs", "default"],
        *["-types", "jar", "bundle"],
        *["-retrieve", str(jars / "[artifact]-[revision].[ext]")],
    ]
    ivy = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if ivy.returncode != 0 or not any(jars.glob("*.jar")):
        last = "\n".join(ivy.stdout.splitlines()[-_ERROR_LINES:])
        raise JarDownloadError(
            f"the jars of {jar_set.purpose} could not be downloaded; Ivy's last lines:\n{last}\n"
            "They come, once, from Maven Central; for a mirror, set IVY_SETTINGS to an Ivy settings file.\n"
            f"Java trusted {trusted.description}. If a proxy has its own certificates, set SSL_CERT_FILE to them"
        )
    return jars


def fetched(jar_set: JarSet) -> Path:
    """The folder of a set of jars in the cache, downloaded now if it is not there yet."""
    cache = settings().mart_cache / "jars"
    folder = cache / jar_set.folder
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{jar_set.folder}.lock"):
        if folder.is_dir():  # another process fetched it while this one waited
            return folder
        message = f"Downloading the jars of {jar_set.purpose} to {folder} (once)"
        with (
            Console(stderr=True).status(message) as spinner,
            tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as scratch,
        ):
            if not spinner.console.is_terminal:
                spinner.console.print(message, soft_wrap=True)
            _retrieve(jar_set, Path(scratch)).rename(folder)  # whole or not at all
    return folder


def spark_jars() -> list[Path]:
    """Jars to add to Spark for Kafka and Delta, none of them doubling what pyspark carries.

    The first call downloads them (about 15 s), later ones touch no network. Raises JarDownloadError.
    """
    return _beside_spark(_spark_set())


def s3_jars() -> list[Path]:
    """Jars that Spark needs beside the others to read a lake on S3 (`s3a://`), 13 MB; only where Spark itself reads it.
    Downloads them at the first call. Raises JarDownloadError."""
    return _beside_spark(_s3_set())


def _beside_spark(jar_set: JarSet) -> list[Path]:
    folder = fetched(jar_set)
    return [folder / jar for jar in missing_from_spark((p.name for p in folder.glob("*.jar")), _carried())]


def broker_classpath() -> list[Path]:
    """All jars of the Kafka broker, in a fixed order. Downloads them at the first call. Raises JarDownloadError."""
    return sorted(fetched(_broker_set()).glob("*.jar"))
