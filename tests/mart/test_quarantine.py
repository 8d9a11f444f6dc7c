"""Quarantine as people see it; its writing is tested with apply."""

from __future__ import annotations

import pytest

from conf.errors import UsageError
from mart.quarantine import check_coordinates
from operations.rejected import readable


def test_no_value_can_play_with_a_terminal():
    assert readable("Caf\u00e9 \u2192 5\n".encode()) == "Caf\u00e9 \u2192 5\n"
    assert readable(b"\x1b[2J\x07\x00\r") == r"\x1b[2J\x07\x00\x0d"
    assert readable("\u009b31m".encode()) == r"\x9b31m"
    assert readable(b"ok \xff\xfe") == r"ok \xff\xfe"


def test_coordinates_have_one_spelling():
    assert check_coordinates(["0:17", "01:0002"]) == ["0:17", "1:2"]
    for wrong in ("17", "0:", "0:-1", "a:1", "0:1 ", "٠:١", "0:1:2", ""):
        with pytest.raises(UsageError, match="give partition:offset"):
            check_coordinates([wrong])
