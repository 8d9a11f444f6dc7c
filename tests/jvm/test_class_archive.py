"""The class archive of a Spark driver: written by one run, taken by the next."""

import subprocess
import sys

import pytest

from jvm import class_archive, spark_jars
from jvm.class_archive import class_archive_options, keep_class_archive
from jvm.java import java
from tests.builders.files import ROOT

_RUN = """
import sys
from pathlib import Path
from conf.settings import Settings
from jvm import class_archive
from jvm.session import spark_session

class_archive._archive = lambda name: Path(sys.argv[1], name)
options = class_archive.class_archive_options("test")
# Where it must be shared, a JVM that cannot take the archive does not start.
options = options.replace("-Xshare:auto", "-Xshare:on") if "SharedArchiveFile" in options else options
spark = spark_session("test", Settings(spark_master="local[1]"), {"spark.driver.extraJavaOptions": options})
assert spark.range(3).count() == 3
class_archive.keep_class_archive(spark, "test")
spark.stop()
print(options)
"""


def run(folder) -> str:
    done = subprocess.run([sys.executable, "-c", _RUN, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow  # two starts of Spark
@pytest.mark.skipif(
    not (java().home / "lib" / "server" / "classes.jsa").is_file(), reason="this Java has no archive to build on"
)
def test_first_run_writes_what_the_second_takes(tmp_path):
    spark_jars()  # a download is not the runs' own
    assert "RecordDynamicDumpInfo" in run(tmp_path)
    [archive] = tmp_path.iterdir()
    written = archive.stat().st_mtime_ns
    assert f"-XX:SharedArchiveFile={archive}" in run(tmp_path)
    assert archive.stat().st_mtime_ns == written


def test_cache_that_takes_no_archive_is_no_failure(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("jvm.class_archive._archive", lambda _: tmp_path / "file" / "streaming.jsa")
    keep_class_archive(None, "streaming")


def test_what_a_killed_writer_left_is_deleted(tmp_path):
    archive = tmp_path / "kafka-4.3.1-12ab.jsa"
    with subprocess.Popen(["true"]) as ended:
        pass
    left = archive.with_suffix(f".{ended.pid}")
    left.write_text("half of it")
    with class_archive.written_whole(archive) as new:
        new.write_text("all of it")
        class_archive.sharing(archive, "")
        assert (new.exists(), left.exists(), archive.exists()) == (True, False, False)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["all of it"]


def test_what_could_not_be_written_is_no_archive(tmp_path):
    with pytest.raises(ZeroDivisionError), class_archive.written_whole(tmp_path / "a.jsa") as new:
        new.write_text(f"half of it, then {1 / 0}")
    assert [*tmp_path.iterdir()] == []


def test_java_without_a_base_archive_gets_no_option_for_one(monkeypatch, tmp_path):
    monkeypatch.setattr("jvm.class_archive._archive", lambda _: tmp_path / "none")
    monkeypatch.setattr("jvm.class_archive.java", lambda: java()._replace(home=tmp_path))
    assert "Dump" not in class_archive_options("streaming")
