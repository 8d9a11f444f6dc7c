"""Every line of standard error is a JSON object, whoever wrote it and in how many pieces."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading

from conf.json_lines import JsonLines, as_json_lines, event


def written(*texts: str) -> list[dict]:
    stream = io.StringIO()
    lines = JsonLines(stream)
    for text in texts:
        lines.write(text)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_in_pieces_is_one_event():
    [one] = written("Picked up ", "JAVA_TOOL", "_OPTIONS\n")
    assert (one["event"], one["level"]) == ("Picked up JAVA_TOOL_OPTIONS", "info")
    assert one.keys() == {"event", "level", "timestamp"}


def test_an_event_stays_as_it_is_and_an_empty_line_is_none():
    text = event("it is over", "error", exit_code=3)
    assert written(f"{text}\n\n  \n") == [json.loads(text)]


def test_json_that_is_no_object_is_text():
    assert [one["event"] for one in written('3\n["a"]\n"b"\n')] == ["3", '["a"]', '"b"']


def test_threads_do_not_write_into_each_others_lines():
    stream = io.StringIO()
    lines = JsonLines(stream)
    lines.write("half a ")
    other = threading.Thread(target=lines.write, args=("whole line\n",))
    other.start()
    other.join()
    lines.write("line\n")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["whole line", "half a line"]


def test_what_python_itself_says_is_json_too(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    as_json_lines()
    as_json_lines()
    logging.StreamHandler(sys.stderr).emit(logging.makeLogRecord({"msg": "a library"}))
    sys.excepthook(ValueError, ValueError("no\nsuch"), None)
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["a library", "ValueError: no", "such"]
