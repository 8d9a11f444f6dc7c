"""Kill the nightly job in each phase: the published run is the old one or the new one, never a mixture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import psycopg2
import pytest

from tests.builders.nightly import BREAKFAST, DAY, current, published, sales
from tests.builders.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]


def start_job(shop, home) -> subprocess.Popen[str]:
    settings = shop.settings
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "mine", "--business-date", DAY.isoformat(), "--support", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | {
            "MART_HOME": str(home),
            "LAKE_PATH": settings.lake,
            "MART_DSN": settings.require_mart(),
            "SPARK_DRIVER_MEMORY": "600m",
            "LOG_FORMAT": "json",
        },
    )


def wait_for(job: subprocess.Popen[str], text: str) -> None:
    seen = []
    for line in job.stdout:
        seen.append(line)
        if text in line:
            return
    pytest.fail(f"the job ended without saying {text}: {''.join(seen)}")


def kill(job: subprocess.Popen[str]) -> None:
    job.send_signal(signal.SIGKILL)
    job.stdout.close()
    assert job.wait() == -signal.SIGKILL


def is_whole(shop) -> bool:
    """Each run has all of its rules, and one run is current."""
    runs = shop.rows(
        """SELECT run.rules = (SELECT count(*) FROM mart.association_rule r WHERE r.run_id = run.id)
           FROM mart.rule_run run WHERE status = 'published'"""
    )
    return len(current(shop)) == 1 and all(whole for (whole,) in runs)


def test_killed_in_each_phase(shop, spark, tmp_path):
    shop.land(sales(*BREAKFAST))
    old = published(shop, spark)
    before = shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id")
    for phase in ("open lake", "read", "name", "mine", "measure"):
        job = start_job(shop, tmp_path)
        wait_for(job, f'"phase": "{phase}"')
        kill(job)
        assert is_whole(shop), phase
        if current(shop)[0][0] == old:
            assert shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id") == before
        else:  # it was quicker than the signal
            assert phase == "measure"
            old, before = current(shop)[0][0], shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id")


def test_killed_between_the_copy_and_the_commit(shop, spark, tmp_path):
    shop.land(sales(*BREAKFAST))
    old = published(shop, spark)
    before = shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id")
    with closing(psycopg2.connect(shop.settings.require_mart("owner"))) as holder:
        with holder.cursor() as cursor:  # the job copies its rules, then waits to change the current run
            cursor.execute("SELECT FROM mart.rule_run WHERE id = %s FOR NO KEY UPDATE", (old,))
        job = start_job(shop, tmp_path)
        wait_for(job, '"phase": "publish"')
        held = """SELECT relation::regclass::text FROM pg_locks WHERE granted AND mode = 'RowExclusiveLock'
                  AND pid IN (SELECT pid FROM pg_locks WHERE NOT granted)"""
        assert ("mart.association_rule",) in until(lambda: shop.rows(held))
        kill(job)
        assert shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id") == before
        holder.rollback()
    until(lambda: not shop.rows("SELECT FROM pg_stat_activity WHERE application_name = 'retail-mart rules'"))
    assert is_whole(shop)
    assert current(shop) == [(old, 4)]
    assert shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id") == before

    job = start_job(shop, tmp_path)
    out, _ = job.communicate()
    assert job.returncode == 0, out
    assert is_whole(shop)
    assert current(shop)[0][0] > old
