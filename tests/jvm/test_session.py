"""What the executors of a cluster get from the driver. A session itself: tests/integration/test_cluster.py."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap

import pytest
from pyspark import cloudpickle

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
