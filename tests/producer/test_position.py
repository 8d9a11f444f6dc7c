from __future__ import annotations

from pathlib import Path

import pytest

from producer.position import Position, PositionError, load, position_file, save


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "replay.json"
    for position in (Position("/a.csv", 3), Position("/b.csv", 0, round=2, shift_days=-40)):
        save(file, position)
        assert load(file) == position
    assert [f.name for f in file.parent.iterdir()] == ["replay.json"]


def test_a_position_belongs_to_paths_and_topic(tmp_path: Path) -> None:
    a = position_file(tmp_path, "t", [Path("a")])
    assert a == position_file(tmp_path, "t", [Path("./a")])
    assert len({a, position_file(tmp_path, "u", [Path("a")]), position_file(tmp_path, "t", [Path("b")])}) == 3


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"file": "x", "invoices": 1, "more": 2}'])
def test_no_position(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "replay.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PositionError, match=r"omit --resume"):
        load(file)
