"""What the executors of a cluster get from the driver, and where a session's temporary files are. A session itself:
tests/integration/test_cluster.py."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from pyspark import cloudpickle

from conf.scratch import scratch
from conf.settings import Settings
from jvm import session
from streaming.apply_job import cleaning
from streaming.executors import _packing
from streaming.land_job import parsing

# An executor's Python: the zip, and what docs/cluster.md says a worker must have. Nothing of the project is installed.
WORKER = textwrap.dedent(
    """
    import importlib.abc, pickle, sys
    ABSENT = {"batch_rules", "sql", "jvm", "stack", "deltalake", "psycopg2", "kafka", "structlog", "pydantic"}

    class OnTheDriverOnly(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ABSENT:
                raise ModuleNotFoundError(f"no {name} on a worker")

    sys.meta_path.insert(0, OnTheDriverOnly())
    sys.path.insert(0, sys.argv[1])
    step = pickle.load(sys.stdin.buffer)
    import pyarrow as pa
    import streaming
    assert streaming.__file__.startswith(sys.argv[1]), streaming.__file__
    from streaming.executors import RECORD_SCHEMA
    record = {"value": b"{", "partition": 0, "offset": 0, "timestamp": 0}
    [packed] = step(iter([pa.RecordBatch.from_pylist([record], RECORD_SCHEMA)]))
    assert packed.num_rows == 1
    """
)


@pytest.mark.parametrize("step", [cleaning, parsing], ids=["apply", "land"])
def test_a_step_runs_on_a_worker_that_has_only_the_drivers_zip_and_the_documented_packages(step, tmp_path):
    code = session._zipped_code(tmp_path)
    task = cloudpickle.dumps(_packing(step(Settings()), 1, 1000))
    assert pickle.loads(task)
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, str(code)], input=task, capture_output=True, cwd=tmp_path, timeout=60
    )
    assert ran.returncode == 0, ran.stderr.decode()


WORKING = """
import sys, time
from conf.settings import Settings
from jvm.session import spark_session
spark = spark_session("killed", Settings(spark_master="local[1]", spark_driver_memory="512m"))
lake = sys.argv[1]
spark.range(1000).repartition(3).write.format("delta").save(lake)
assert spark.read.format("delta").load(lake).count() == 1000
print(spark.sparkContext._gateway.proc.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_what_a_killed_spark_leaves_is_below_its_home_and_goes_with_the_next_start(tmp_path):
    """It left /tmp/spark-*, blockmgr-*, artifacts-* and liblz4-java-*, for good."""
    home = tmp_path / "home of a shop"
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_LOCAL_DIRS"}
    with subprocess.Popen(
        [sys.executable, "-c", WORKING, str(tmp_path / "lake")],
        env={**environment, "MART_HOME": str(home)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        java = psutil.Process(int(driver.stdout.readline()))
        elsewhere = [
            path
            for path in {one.path for one in java.memory_maps()} | {one.path for one in java.open_files()}
            if re.match(r"/tmp/(?!hsperfdata|pytest-of)", path)
        ]
        os.killpg(driver.pid, signal.SIGKILL)
    java.wait(30)
    [left] = (home / "scratch").iterdir()
    kinds = {path.name.split("-")[0] for path in left.iterdir()}
    assert {"artifacts", "blockmgr", "liblz4", "spark"} <= kinds
    assert elsewhere == []
    with scratch(Settings(mart_home=home).scratch, "verify") as folder:
        assert list(folder.parent.iterdir()) == [folder]
