"""Every table that a command prints, at 80 columns, of values as long as they come: each can be read whole."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import RenderableType

from batch_rules.check import Check
from cli.operate import compacted
from cli.rules import check_table, recommendation_table, runs_table, top_table
from cli.servers import server_table
from conf.settings import Settings
from lake.files import Compacted
from mart.quarantine import Count, Quarantined
from mart.reject_reason import MEANING, RejectReason
from mart.status import Batches, Disk, Nightly, Observed, RunStatus
from operations import erase, explain, prune, redrive, rejected, repair, status, verify, watch
from operations.alerts import Alert, Judgement
from stack.lifecycle import ServerStatus, Started
from tests.builders.rendered import rendered, unreadable

AT = datetime(2024, 2, 14, 20, 41, 3, tzinfo=UTC)
DAY = date(2024, 2, 14)
CUSTOMER = "customer-" + "0123456789" * 9
INVOICE = "INV-" + "9876543210" * 9
CODE = "STOCK/" + "ABCDEFGHIJ" * 6
PATH = Path("/srv/a folder/of-somebody-who-names-them-all-in-full/retail-mart/home/lake/invoices")
MONEY = Decimal("123456789012345.67")
MANY = 123_456_789
DIGEST = "f0" * 32


def explained(newest_segment: str = "Loyal Customers") -> explain.Explanation:
    return explain.Explanation(
        CUSTOMER,
        explain.Customer(CUSTOMER, 1054, MANY, MONEY, AT, 3, 4, 5, "Champions", DAY),
        [
            explain.Score("r", 3, "2024-02-14", 389, 1_000_000, 400_001, 600_000, "2024-02-01", "2024-02-20", 9,
                          "2024-02-20", Decimal(6)),
            explain.Score("f", 4, str(MANY), 400, 1_000_000, 200_001, 400_000, "12", "14", 7, "14", Decimal(2)),
            explain.Score("m", 5, str(MONEY), 401, 1_000_000, 1, 200_000, "12388700.00", None, None, None, None),
        ],
        [explain.Purchase(INVOICE, AT, 1_000, 999, MONEY, MONEY), explain.Purchase("5", AT, 1, 0, MONEY, Decimal(0))],
        [
            explain.Move(AT, AT, "Needs Attention", newest_segment, 1, 2, 3, 4, 5, 4, "own purchase", INVOICE),
            explain.Move(AT, AT, None, "At Risk", None, None, None, 1, 1, 1, "overtaken", None),
        ],
        explain.Carried(MANY, MONEY, MONEY, AT),
    )  # fmt: skip


def observed() -> Observed:
    return Observed(
        broker_problem=f"Kafka at {'broker-0123456789.example.com:9092,' * 3} is unavailable",
        batches=Batches(AT, 1_054.2, MANY, MANY),
        nightly=Nightly(RunStatus.KEPT_BACK, f"no rule of {CODE}", DAY, AT, AT, AT, 1.0),
        lag=MANY,
        disks=(Disk("checkpoint", PATH, 10**15, 10**16),),
    )


def verified() -> verify.Verified:
    first = [
        verify.Difference("invoice", INVOICE, "content_sha256", DIGEST, DIGEST[::-1]),
        verify.Difference("customer", CUSTOMER, "monetary", str(MONEY), None, (INVOICE, "5")),
    ]
    rows = dict.fromkeys(("invoice", "customer", "cut", "score", "total", verify.CONFLICT), MANY)
    return verify.Verified(MANY, verify.Unlanded(DAY, MANY, MANY), rows, rows, first, {"compare": 4.6})


RECORD = Quarantined(
    DIGEST,
    1023,
    10**15,
    AT,
    RejectReason.CONFLICTING_DUPLICATE,
    f"invoice {INVOICE!r} was applied",
    b"{}",
    AT,
    None,
    None,
)
SETTINGS = Settings(invoices_kept_days=100_000, quarantine_kept_days=100_000, rule_runs_kept=MANY)
TABLES: dict[str, tuple[RenderableType, tuple[str, ...]]] = {
    "explain": (
        explain.describe(explained()),
        (CUSTOMER, INVOICE, f"{MONEY:,}", f"{MANY:,}", "400,001-600,000", "2024-02-20", "12,388,700.00", "389",
         "1,000,000", "2024-02-14 20:41:03", "Needs Attention", "1 2 3 → 4 5 4", f"own purchase: invoice {INVOICE}"),
    ),
    "status": (
        status.describe(status.Status(observed(), status.Writer(True, f"host-{DIGEST} pid 1", AT), MANY, f"at {PATH}")),
        (str(PATH), DIGEST, f"{MANY:,}", f"no rule of {CODE}", "kept back", "2024-02-14 20:41:03"),
    ),
    "watch": (
        watch.describe(
            watch.Look(observed(), Judgement({Alert.DISK_LOW: f"lake ({PATH}): full"}, frozenset()), 0), SETTINGS
        ),
        (*Alert, f"({PATH})", "ALERT_LAG_RECORDS=100000", "ALERT_REJECT_PERCENT=5"),
    ),
    "verify": (
        verify.describe(verified()),
        (INVOICE, CUSTOMER, DIGEST, DIGEST[::-1], str(MONEY), "content_sha256", f"{MANY:,}", "conflicting copies"),
    ),
    "verify --repair": (
        repair.describe(
            repair.Repaired(
                repair.Replaced(*[{"invoice": MANY, "customer": MANY}] * 3, MANY), MANY,
                [verify.NextOffset(CODE, DIGEST, 1023, 10**15)], PATH, verified(),
            )
        ),
        (f"{MANY:,}", str(PATH), CODE, str(10**15)),
    ),
    "erase": (
        erase.describe(erase.Erased(erase.ErasedFromMart(*[MANY] * 6, AT), erase.ErasedFromLake(MANY, MANY, MANY, AT))),
        (f"{MANY:,}", "2024-02-14 20:41:03 UTC", "quarantined records: value and detail removed"),
    ),
    "prune": (
        prune.describe(SETTINGS, prune.Bounds(DAY, DAY, DAY, AT, AT, MANY), prune.Old(*[MANY] * 7)),
        (f"{MANY:,}", "INVOICES_KEPT_DAYS=100000", "QUARANTINE_KEPT_DAYS=100000", f"RULE_RUNS_KEPT={MANY}",
         "since 2024-02-14"),
    ),
    "rejected redrive": (
        redrive.describe(redrive.Redriven(MANY, MANY, redrive.Counter(dict.fromkeys(RejectReason, MANY))), False),
        (*MEANING.values(), *RejectReason, f"{MANY:,}"),
    ),
    "rejected list": (
        rejected.describe_list(CODE, [Count(reason, None, MANY, AT) for reason in RejectReason], [RECORD]),
        (*MEANING.values(), *RejectReason, f"{MANY:,}", RECORD.coordinates, RECORD.detail, "2024-02-14 20:41:03"),
    ),
    "rejected show": (
        rejected.describe_record(CODE, RECORD),
        (DIGEST, CODE, str(10**15), RECORD.detail, MEANING[RECORD.reason], "2024-02-14 20:41:03+0000"),
    ),
    "compact": (
        compacted(Compacted(MANY, 10**15, MANY, 10**15, MANY, MANY, MANY, 1.0)), (f"{MANY:,}", "1.0 PB"),
    ),
    "servers": (
        server_table(
            ["PostgreSQL"],
            [ServerStatus("Kafka", True, "127.0.0.1:65535", 4_194_304, 10**15, PATH / "log" / "kafka.log")],
            [Started("live page", 4_194_303, 4_194_302, False)],
        ),
        ("127.0.0.1:65535", "4194304", str(PATH / "log" / "kafka.log"), "until command 4194302 ends", "external"),
    ),
    "check": (check_table(MANY, [Check("rules of the run", f"{CODE} {MANY}", False)]), (CODE, str(MANY), "FAILED")),
    "recommend": (
        recommendation_table([(CODE, f"a product {CODE}", [CODE, "tea"], 0.123, 1234.5, 0.1)]),
        (CODE, f"a product {CODE}", f"{CODE} + tea", "12.3%", "1234.50"),
    ),
    "runs": (
        runs_table(
            [(MANY, DAY, 90, Decimal("0.000005"), Decimal("0.050000"), 3, MANY, MANY, MANY, "kept back", True, CODE)]
        ),
        (f"*{MANY}", "90d to 2024-02-14", "0.000005 / 0.050000 / ≤ 3 items", f"v{MANY}", f"{MANY:,}",
         f"kept back: {CODE}"),
    ),
    "mine": (top_table([([CODE, "tea"], [CODE], 0.5, 0.25, 1234.5)]), (f"{CODE} + tea", "50.00%", "25.0%", "1234.50")),
}  # fmt: skip


@pytest.mark.parametrize("command", TABLES)
def test_each_value_can_be_read_whole_at_80_columns(command):
    shown, values = TABLES[command]
    text = rendered(shown)
    assert "…" not in text
    assert unreadable(text, values) == []
