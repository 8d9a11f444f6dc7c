"""Reading the three dialects, and what happens to lines that are none."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.csv_invoices import (
    HeaderError,
    Invoice,
    Line,
    Reject,
    check_header,
    csv_files,
    parse_invoices,
    read_invoices,
)

GOLDEN = Path(__file__).parent / "golden"
HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID"
GOOD = "1,A1,Apples,2,2024-01-01 08:00:00,1.50,7"


def parse(*lines: str) -> tuple[list[Invoice], list[tuple[int, str]]]:
    """The invoices, and line number and reason of each reject, of a file with the shop's header."""
    invoices, rejects = parse_invoices("\n".join([HEADER, *lines]) + "\n", "f.csv")
    return invoices, [(r.line, r.reason) for r in rejects]


def test_the_shops_own_files() -> None:
    invoices, rejects = read_invoices(GOLDEN / "shop.csv")
    assert rejects == []
    assert invoices == [
        Invoice(
            "20240101000001",
            datetime(2024, 1, 1, 8, 3, 31),
            "17215",
            [
                Line("IND-001", "Indomie Mi Goreng 85 g", 2, "3500"),
                Line("IND-002", "Telur Ayam Negeri 1 kg", 1, "29500"),
                Line("ONGKIR", "Ongkos Kirim", 1, "15000"),
            ],
            2,
        ),
        Invoice(
            "20240101000002",
            datetime(2024, 1, 1, 8, 5),
            None,
            [
                Line("BEV-001", "Teh Botol Sosro 350 ml", 6, "4900"),
                Line("BEV-002", "Aqua Air Mineral 600 ml", 1, "0"),
            ],
            5,
        ),
        Invoice(
            "20240101000003",
            datetime(2024, 1, 1, 9, 59, 59),
            "12000",
            [
                Line("RICE-001", "Beras Pandan Wangi 5 kg", 1, "78500"),
                Line("DISCOUNT", "Diskon Promo", -1, "5000"),
            ],
            7,
        ),
        Invoice(
            "C20240101000004",
            datetime(2024, 1, 1, 21),
            "17215",
            [
                Line("IND-001", "Indomie Mi Goreng 85 g", -2, "3500"),
                Line("IND-002", "Telur Ayam Negeri 1 kg", -1, "29500"),
            ],
            9,
        ),
        Invoice(
            "20240101000005",
            datetime(2024, 1, 1, 21, 59, 59),
            "18000",
            [Line("HHLD-001", 'Sunlight "Jeruk", 700 ml', 1, "14900")],
            11,
        ),
    ]


def test_uci_online_retail() -> None:
    invoices, rejects = read_invoices(GOLDEN / "uci_online_retail.csv")
    assert [(r.line, r.reason) for r in rejects] == [(11, "price 0.001 has more than 2 decimals")]
    assert rejects[0].raw.startswith("550193,PADS,")
    by_number = {i.number: i for i in invoices}
    assert list(by_number) == [
        "536365", "536414", "536520", "536521", "C536379", "536540", "A563187", "536541",
    ]  # fmt: skip
    assert by_number["536365"].customer_id == "17850"
    assert [line.price for line in by_number["536365"].lines] == ["2.55", "3.39"]
    assert by_number["536414"].lines == [Line("22139", "", 56, "0.0")]
    # Its lines are apart in the file and a minute apart in time: one invoice, of the earlier minute.
    assert by_number["536520"].date == datetime(2010, 12, 1, 12, 43)
    assert [line.stock_code for line in by_number["536520"].lines] == ["22469", "22460"]
    assert by_number["536521"].lines[0].description == "SKULLS SQUARE TISSUE BOX "
    assert by_number["C536379"].date == datetime(2010, 12, 1, 9, 41, 7)
    assert by_number["C536379"].lines == [Line("D", "Discount", -1, "27.50")]
    assert by_number["A563187"].lines == [Line("B", "Adjust bad debt", 1, "-11062.06")]
    assert by_number["A563187"].date == datetime(2011, 8, 12, 14, 52)
    assert by_number["536541"].lines[0].description == "Dotcomgiftshop Gift Voucher £40.00"


def test_online_retail_ii() -> None:
    invoices, rejects = read_invoices(GOLDEN / "online_retail_ii.csv")
    assert [(r.line, r.reason) for r in rejects] == [
        (6, "the stock code is empty"),
        (7, "the invoice number is empty"),
        (8, "quantity '1.5' is not a whole number"),
        (9, "date '2009-13-01 10:53:00': month must be in 1..12"),
        (10, "price 'NaN' is not a decimal number of at most 16 digits and 2 decimals"),
        (11, "5 columns instead of 8"),
    ]
    assert [i.number for i in invoices] == ["489434", "489464", "489466"]
    assert [(line.stock_code, line.price) for line in invoices[0].lines] == [
        ("85048", "6.95"), ("79323P", "6.75"), ("22041", "2.1"),
    ]  # fmt: skip
    assert invoices[0].customer_id == "13085"
    assert invoices[0].lines[2].description == 'RECORD FRAME 7" SINGLE SIZE '
    assert invoices[1].lines == [Line("21733", "85123a mixed", -96, "0")]
    assert invoices[2].lines[0].description == "LOVE BUILDING, BLOCK WORD"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("compressed", [False, True])
def test_encodings(tmp_path: Path, encoding: str, compressed: bool) -> None:
    content = f"{HEADER}\r\n1,A1,Crème £5,2,2024-01-01 08:00:00,1.50,7\r\n".encode(encoding)
    file = tmp_path / ("f.csv.gz" if compressed else "f.csv")
    file.write_bytes(gzip.compress(content) if compressed else content)
    check_header(file)
    invoices, rejects = read_invoices(file)
    assert rejects == []
    assert invoices[0].lines == [Line("A1", "Crème £5", 2, "1.50")]
    assert invoices[0].customer_id == "7"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,A1,Apples,2,2024-01-01 08:00:00,1.50,7,x", "8 columns instead of 7"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,1.505,7", "price 1.505 has more than 2 decimals"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,1.500,7", "price 1.500 has more than 2 decimals"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,1e3,7", "price '1e3'"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,,7", "price ''"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,12345678901234567,7", "price '12345678901234567'"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,١٢,7", "price '١٢'"),
        ("1,A1,Apples,1_000,2024-01-01 08:00:00,1.50,7", "quantity '1_000'"),
        ("1,A1,Apples,2147483648,2024-01-01 08:00:00,1.50,7", "quantity 2147483648 does not fit"),
        ("1,A1,Apples,,2024-01-01 08:00:00,1.50,7", "quantity ''"),
        ("1,A1,Apples,2,2024-02-30 08:00:00,1.50,7", "date '2024-02-30 08:00:00'"),
        ("1,A1,Apples,2,1899-12-31 08:00:00,1.50,7", "date '1899-12-31 08:00:00': the year"),
        ("1,A1,Apples,2,1/1/2100 8:00,1.50,7", "date '1/1/2100 8:00': the year"),
        ("1,A1,Apples,2,30/12/2024 08:00,1.50,7", "date '30/12/2024 08:00'"),
        ("1,A1,Apples,2,yesterday,1.50,7", "date 'yesterday'"),
        ("1,A1,Apples,2,,1.50,7", "date ''"),
        ("  ,A1,Apples,2,2024-01-01 08:00:00,1.50,7", "the invoice number is empty"),
        (f"{'9' * 65},A1,Apples,2,2024-01-01 08:00:00,1.50,7", "the invoice number is longer"),
        (f"1,{'A' * 65},Apples,2,2024-01-01 08:00:00,1.50,7", "the stock code is longer"),
        (f"1,A1,{'x' * 1001},2,2024-01-01 08:00:00,1.50,7", "the description is longer"),
        (f"1,A1,Apples,2,2024-01-01 08:00:00,1.50,{'7' * 65}", "the customer id is longer"),
        ("1,A1,App\0les,2,2024-01-01 08:00:00,1.50,7", "a NUL character"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,1.50,7\0", "a NUL character"),
        ("1\0,A1,Apples,2,2024-01-01 08:00:00,1.50,7", "a NUL character"),
        ('1,A1,"App"les,2,2024-01-01 08:00:00,1.50,7', "a broken quote"),
        ('1,A1,"Apples,2,2024-01-01 08:00:00,1.50,7', "a broken quote"),
        ("1,A1,Apples,2,2024-01-01 08:00:00,1.50,8", "customer '8', but the invoice began with '7'"),
    ],
)
def test_a_bad_line_is_rejected_alone(line: str, reason: str) -> None:
    invoices, rejects = parse(GOOD, line, GOOD.replace("Apples", "Pears"))
    ((number, text),) = rejects
    assert number == 3
    assert text.startswith(reason)
    assert [[x.description for x in i.lines] for i in invoices] == [["Apples", "Pears"]]


def test_prices_and_descriptions_stay_as_they_are() -> None:
    invoices, rejects = parse(
        "1,A1,  two spaces ,1,2024-01-01 08:00:00,-0.10,", '1,A2,12" ruler,1,2024-01-01 08:00:00,007,'
    )
    assert rejects == []
    assert invoices[0].lines == [Line("A1", "  two spaces ", 1, "-0.10"), Line("A2", '12" ruler', 1, "007")]


def test_a_quoted_line_break_belongs_to_its_line() -> None:
    invoices, rejects = parse('1,A1,"one\ntwo",1,2024-01-01 08:00:00,1,', "1,A2,x,bad,2024-01-01 08:00:00,1,")
    assert invoices[0].lines == [Line("A1", "one\ntwo", 1, "1")]
    assert rejects == [(4, "quantity 'bad' is not a whole number")]


def test_a_customer_may_come_on_a_later_line() -> None:
    invoices, rejects = parse("1,A1,x,1,2024-01-01 08:00:00,1,", "1,A2,y,1,2024-01-01 08:00:00,1,17850.0")
    assert rejects == []
    assert invoices[0].customer_id == "17850"


def test_blank_lines_and_other_columns_are_passed_over() -> None:
    text = f"Till,{HEADER}\n\n5,{GOOD}\n   \n5,{GOOD}\n"
    invoices, rejects = parse_invoices(text, "f.csv")
    assert rejects == []
    assert len(invoices[0].lines) == 2


def test_an_unknown_header_names_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("Invoice,StockCode,Description,Qty,InvoiceDate,Price\n")
    with pytest.raises(HeaderError, match=r"f\.csv: the header lacks the columns quantity, customerid"):
        check_header(file)
    with pytest.raises(HeaderError):
        read_invoices(file)


def test_a_file_that_cannot_be_read_is_one_reject(tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(f"{HEADER}\n{GOOD}\n".encode() * 100)[:-20])
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    for file in broken, empty:
        check_header(file)
        invoices, rejects = read_invoices(file)
        assert invoices == []
        assert [(r.file, r.line) for r in rejects] == [(str(file), 0)]


def test_folders_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "notes.txt", "c.CSV.bak"):
        (tmp_path / name).write_text("")
    single = tmp_path / "notes.txt"
    assert csv_files([tmp_path, single]) == [tmp_path / "a.csv.gz", tmp_path / "b.csv", single]
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file"):
        csv_files([tmp_path / "nowhere"])
    (tmp_path / "void").mkdir()
    with pytest.raises(FileNotFoundError, match=r"void: no \.csv"):
        csv_files([tmp_path / "void"])


text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=30)
prices = st.from_regex(r"-?[0-9]{1,16}(\.[0-9]{1,2})?", fullmatch=True)
row = st.tuples(
    st.integers(1, 3).map(str),
    text.filter(bool),
    text,
    st.integers(-(2**31), 2**31 - 1).map(str),
    st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)).map(lambda d: d.isoformat(" ", "seconds")),
    prices,
)


@given(st.lists(row), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_what_a_csv_writer_writes_is_read_as_it_was(rows: list[tuple[str, ...]], quoting: int) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(HEADER.split(","))
    writer.writerows([*r, "7"] for r in rows)
    invoices, rejects = parse_invoices(out.getvalue(), "f.csv")
    assert rejects == []
    assert {i.number: i.lines for i in invoices} == {
        n: [Line(c, d, int(q), p) for m, c, d, q, _, p in rows if m == n] for n in {r[0] for r in rows}
    }
    for i in invoices:
        assert i.date.isoformat(" ") == min(r[4] for r in rows if r[0] == i.number)


@given(st.lists(st.one_of(st.just(GOOD), st.text(alphabet='1,"aA.:- \n', max_size=40), text)))
def test_no_line_is_lost_whatever_the_file_holds(lines: list[str]) -> None:
    body = "\n".join(lines)
    invoices, rejects = parse_invoices(f"{HEADER}\n{body}\n", "f.csv")
    physical = [s for s in body.split("\n") if s.strip()]
    covered = sum(len(i.lines) for i in invoices) + sum(
        len([s for s in r.raw.split("\n") if s.strip()]) for r in rejects
    )
    joined = sum(line.description.count("\n") + line.stock_code.count("\n") for i in invoices for line in i.lines)
    assert covered <= len(physical) <= covered + joined
    assert all(isinstance(r, Reject) and r.line >= 2 for r in rejects)
