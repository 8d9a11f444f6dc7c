"""What a replay sends, in which order, and where it goes on: without a broker."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from producer.csv_invoices import HeaderError, Reject
from producer.position import Position, PositionError
from producer.replay import Options, RejectFile, Span, date_span, messages

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID\n"


def line(number: str, moment: str, customer: str = "7") -> str:
    return f"{number},A1,Apples,1,{moment},1.50,{customer}\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two days of two invoices each, with a bad line on the second."""
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    first.write_text(HEADER + line("a", "2024-01-30 08:00:00") + line("b", "2024-01-30 09:00:00", ""))
    second.write_text(
        HEADER + line("c", "2024-02-01 08:00:00") + line("", "2024-02-01 08:30:00") + line("d", "2024-02-01 09:00:00")
    )
    return [first, second]


@pytest.fixture
def rejects(tmp_path: Path) -> Iterator[RejectFile]:
    with RejectFile(tmp_path / "out" / "rejects.csv") as file:
        yield file


def sent(
    files: list[Path], rejects: RejectFile, take: int = 100, max_bytes: int = 10_000, **options: Any
) -> list[tuple[str, str]]:
    """Invoice number and date of the first messages."""
    found = [json.loads(m.value) for m in islice(messages(Options(files, **options), rejects, max_bytes), take)]
    return [(m["invoice"], m["invoice_date"]) for m in found]


def test_one_message_an_invoice_in_the_order_of_the_files(files: list[Path], rejects: RejectFile) -> None:
    found = list(messages(Options(files), rejects))
    assert [json.loads(m.value)["invoice"] for m in found] == ["a", "b", "c", "d"]
    assert [m.key for m in found] == [b"7", b"b", b"7", b"7"]
    names = [str(f.resolve()) for f in files]
    assert [m.position for m in found] == [
        Position(names[0], 1), Position(names[0], 2), Position(names[1], 1), Position(names[1], 2),
    ]  # fmt: skip
    assert [m.fraction for m in found] == sorted(m.fraction for m in found)
    assert found[-1].fraction == 1


def test_rejects_are_written_with_their_line(files: list[Path], rejects: RejectFile) -> None:
    sent(files, rejects)
    with rejects.path.open(newline="") as written:
        assert list(csv.reader(written)) == [
            ["file", "line", "reason", "raw"],
            [str(files[1]), "3", "the invoice number is empty", ",A1,Apples,1,2024-02-01 08:30:00,1.50,7"],
        ]
    assert rejects.count == 1


def test_a_reject_file_is_begun_anew_or_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    for append, rows in ((False, 2), (True, 3), (False, 2)):
        with RejectFile(path, append=append) as rejects:
            rejects.write([Reject("f", 2, "why", "raw")])
        assert len(path.read_text().splitlines()) == rows


def test_dates_move_by_whole_days(files: list[Path], rejects: RejectFile) -> None:
    assert sent(files, rejects, shift_days=30) == [
        ("a", "2024-02-29T08:00:00"), ("b", "2024-02-29T09:00:00"),
        ("c", "2024-03-02T08:00:00"), ("d", "2024-03-02T09:00:00"),
    ]  # fmt: skip


def test_the_span_of_the_dates(files: list[Path], tmp_path: Path) -> None:
    assert date_span(files) == Span(date(2024, 1, 30), date(2024, 2, 1))
    assert Span(date(2024, 1, 30), date(2024, 2, 1)).days == 3
    (tmp_path / "none.csv").write_text(HEADER)
    assert date_span([tmp_path / "none.csv"]) is None


def test_later_rounds_have_other_numbers_and_later_dates(files: list[Path], rejects: RejectFile) -> None:
    assert sent(files, rejects, take=9, loop_days=3)[3:] == [
        ("d", "2024-02-01T09:00:00"),
        ("a-2", "2024-02-02T08:00:00"), ("b-2", "2024-02-02T09:00:00"),
        ("c-2", "2024-02-04T08:00:00"), ("d-2", "2024-02-04T09:00:00"),
        ("a-3", "2024-02-05T08:00:00"),
    ]  # fmt: skip
    assert rejects.count == 1  # not once a round


@pytest.mark.parametrize("stopped_after", range(8))
def test_resuming_sends_what_was_left(files: list[Path], rejects: RejectFile, stopped_after: int) -> None:
    whole = list(islice(messages(Options(files, loop_days=3, shift_days=5), rejects), 9))
    start = whole[stopped_after].position
    rest = messages(Options(files, loop_days=3, shift_days=start.shift_days, start=start), rejects)
    assert [m.value for m in islice(rest, 8 - stopped_after)] == [m.value for m in whole[stopped_after + 1 :]]


def test_a_finished_replay_has_nothing_left_until_a_file_comes(files: list[Path], rejects: RejectFile) -> None:
    end = list(messages(Options(files), rejects))[-1].position
    assert sent(files, rejects, start=end) == []
    third = files[0].with_name("3.csv")
    third.write_text(HEADER + line("e", "2024-02-02 08:00:00"))
    assert [n for n, _ in sent([*files, third], rejects, start=end)] == ["e"]


def test_a_position_in_a_file_that_is_gone(files: list[Path], rejects: RejectFile) -> None:
    with pytest.raises(PositionError, match=r"9\.csv, which is no longer among the files"):
        sent(files, rejects, start=Position("/9.csv", 1))


def test_what_cannot_be_a_message_is_rejected(tmp_path: Path, rejects: RejectFile) -> None:
    file = tmp_path / "f.csv"
    long = "n" * 63
    file.write_text(
        HEADER
        + "".join(line("big", "2024-01-01 08:00:00") for _ in range(20))
        + line(long, "2024-01-01 08:00:00")
        + line("late", "2099-12-31 08:00:00")
        + line("fine", "2024-01-01 08:00:00")
    )
    assert [n for n, _ in sent([file], rejects, max_bytes=500, shift_days=1)] == [long, "fine"]
    assert rejects.count == 2
    second_round = [n for n, _ in sent([file], rejects, take=6, loop_days=1)][-2:]
    assert second_round == ["big-2", "fine-2"]  # the number and the date of the others grew too large
    text = rejects.path.read_text()
    assert '2,"invoice big, round 1: a message of' in text
    assert "moved by 1 day is not in 1900..2099" in text
    assert "is longer than 64 characters" in text


def test_an_endless_replay_of_nothing_ends(tmp_path: Path, rejects: RejectFile) -> None:
    file = tmp_path / "f.csv"
    file.write_text(HEADER + line("a", "2024-01-01 08:00:00"))
    assert sent([file], rejects, loop_days=1, max_bytes=10) == []


def test_a_strange_file_is_refused(tmp_path: Path, rejects: RejectFile) -> None:
    file = tmp_path / "f.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(HeaderError):
        sent([file], rejects)
