"""The folder of a query's checkpoint: its own, gone with it, and what a killed job left gone with the next start."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from conf.errors import StreamingError
from streaming.checkpoint import checkpoint

HOLDING = """
import os, signal, sys
from streaming.checkpoint import checkpoint
with checkpoint(sys.argv[1], "apply") as folder:
    open(folder + "/offsets", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_is_gone_with_the_block_whatever_is_in_it(tmp_path):
    with suppress(ZeroDivisionError), checkpoint(str(tmp_path / "not" / "yet"), "land") as folder:
        (Path(folder) / "offsets").mkdir()
        raise ZeroDivisionError
    assert list((tmp_path / "not" / "yet").iterdir()) == []


def test_another_start_leaves_a_running_ones_alone_and_clears_away_a_killed_ones(tmp_path):
    subprocess.run([sys.executable, "-c", HOLDING, str(tmp_path)], check=False)
    [killed] = tmp_path.iterdir()
    (tmp_path / "epoch-7").mkdir()  # of an older version
    (tmp_path / "something").mkdir()  # not ours
    with checkpoint(str(tmp_path), "apply") as first, checkpoint(str(tmp_path), "land") as second:
        assert first != second
        assert {str(path) for path in tmp_path.iterdir()} == {first, second, str(tmp_path / "something")}
        assert not killed.exists()


def test_at_a_url_each_start_has_another_one():
    with checkpoint("hdfs://host/spark", "apply") as first, checkpoint("hdfs://host/spark", "apply") as second:
        assert first.startswith("hdfs://host/spark/apply-")
        assert first != second


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamingError, match="Set CHECKPOINT_DIR"), checkpoint(str(tmp_path / "file"), "apply"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
