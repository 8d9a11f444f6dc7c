"""The live page in a real browser: it moves by itself, says what is wrong, and asks nobody but its own server."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from dashboards.cards import cards
from mart.connection import connect
from tests.dashboards.browser import WIDTHS, tab
from tests.dashboards.served import Wire, served
from tests.integration.mart_rows import rows

pytestmark = [pytest.mark.stack, pytest.mark.slow]
_HERE = re.compile("live|no new invoice")  # a job is connected; which of the two is a matter of seconds


def total(mart) -> int:
    return rows(mart.owner_dsn, "SELECT count(*) FROM mart.invoice")[0][0]


def test_counts_change_without_reload_while_batches_come(browser, url, shop, fresh_mart, sold):
    with tab(browser, url) as opened:
        opened.wait_for_text("[data-column=invoices] dd", f"{total(fresh_mart):,}")
        assert opened.state() == "live"
        opened.page.evaluate("window.loadedOnce = true")
        shown = []
        for start in range(-500, 0, 100):
            shop.apply(sold[start : start + 100 or None])
            opened.wait_for_text("[data-column=invoices] dd", f"{total(fresh_mart):,}")
            shown.append(opened.figure("invoices"))
        assert len(set(shown)) == 5
        assert opened.page.evaluate("window.loadedOnce")
        # The bars are the mart's counts, name for name; the newest move is the mart's newest.
        counts = rows(fresh_mart.reader_dsn, "SELECT customer_segment, customers FROM mart.segment_count")
        for name, customers in counts:
            row = opened.page.locator(f"#card-customers_by_segment [data-key='{name}'] .value")
            assert row.get_attribute("data-value") == str(customers)
        [(mover,)] = rows(fresh_mart.reader_dsn, "SELECT customer_id FROM mart.segment_move ORDER BY id DESC LIMIT 1")
        opened.wait_for_text("#card-newest_moves tbody tr:first-child", mover)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_every_card_is_drawn_and_fits(browser, url, shop, sold, screenshots, size, scheme):
    shop.age(minutes=40)  # trends need a past
    shop.apply(sold[-500:])
    with tab(browser, url, size, scheme) as opened:
        for card in cards():
            opened.page.locator(f"#card-{card.name} [data-drawn]").wait_for(state="attached", timeout=15_000)
        width = WIDTHS[size][0]
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
        assert (brightness > 200) if scheme == "light" else (brightness < 60)
        opened.page.screenshot(path=screenshots / f"live_page_{size}_{scheme}.png", full_page=True)


def test_theme_can_be_chosen_and_is_remembered(browser, url):
    with tab(browser, url, scheme="light") as opened:
        before = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        opened.page.click("#theme")
        after = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert after != before
        opened.page.reload()
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == after


def test_currency_is_the_settings(browser, shop, fresh_mart):
    with served(fresh_mart.reader_dsn, CURRENCY="£") as page, tab(browser, page.url()) as opened:
        opened.wait_for_text("[data-column=revenue] dd", re.compile(r"£\d"))
        opened.wait_for_text("#card-at_risk tbody tr:first-child", re.compile(r"£\d{1,3}(,\d{3})+"))


def test_hidden_tab_lets_go_of_the_server_and_catches_up_when_seen(browser, url, shop, fresh_mart, sold):
    hide = (
        "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    with tab(browser, url) as opened:
        before = f"{total(fresh_mart):,}"
        opened.wait_for_text("[data-column=invoices] dd", before)
        opened.page.evaluate(hide, True)
        shop.apply(sold[-500:])
        opened.page.wait_for_timeout(1500)
        assert opened.figure("invoices") == before
        opened.page.evaluate(hide, False)
        opened.wait_for_text("[data-column=invoices] dd", f"{total(fresh_mart):,}")
        assert opened.state() == "live"


def test_customer_page_follows_the_customer(browser, url, shop, fresh_mart, sold, screenshots):
    [(customer,)] = rows(
        fresh_mart.reader_dsn,
        "SELECT customer_id FROM mart.customer_segmentation WHERE customer_segment = 'At Risk'"
        " ORDER BY monetary DESC LIMIT 1",
    )
    with tab(browser, url) as opened:
        opened.page.click(f"#card-at_risk a:text('{customer}')")
        opened.wait_for_text("#customer h1", f"Customer {customer}")
        opened.wait_for_text("#customer h1", "At Risk")
        opened.wait_for_text(
            "#customer [data-metric=r] .hint", re.compile(r"rank \d+ of \d+ · .+ below the next fifth")
        )
        # They buy again, as the last of all: no longer at risk, and the page says so by itself, with the cause.
        own = next(invoice for invoice in sold[-500:] if len(invoice.lines) > 1)
        own.customer_id, own.date = customer, sold[-1].date
        shop.apply([own])
        opened.wait_for_text("#customer [aria-label='Moves between segments'] tbody tr:first-child", "own purchase")
        opened.wait_for_text("#customer section[aria-label='Purchases']", own.number)
        opened.page.screenshot(path=screenshots / "live_page_customer.png", full_page=True)
        opened.page.click("#customer .back")
        opened.page.locator("#overview").wait_for(state="visible")


def test_unknown_customer_is_said_so(browser, url):
    # The page asks again with each batch it hears of: the first news may come before or after the question.
    with tab(browser, url, may_log="status of 404") as opened:
        opened.page.fill("#find input", "nobody")
        opened.page.press("#find input", "Enter")
        opened.wait_for_text("#customer", "The mart knows no customer nobody with a purchase.")


def test_basket_is_answered_by_the_rules(browser, url, fresh_mart):
    with tab(browser, url, "phone") as opened:
        opened.page.fill("#basket input", "ind-001")
        opened.page.click("#basket button[type=submit]")
        opened.wait_for_text("#basket tbody tr:first-child", "Telur Ayam Negeri 1 kg")
        opened.page.fill("#basket input", "Teh Botol Sosro 350 ml")
        opened.page.click("#basket button[type=submit]")
        opened.wait_for_text("#basket tbody", "Aqua Air Mineral 600 ml")
        shown = opened.page.locator("#basket tbody tr td:first-child").all_inner_texts()
        expected = rows(fresh_mart.reader_dsn, "SELECT stock_code FROM mart.recommend(ARRAY['IND-001', 'BEV-001'], 5)")
        assert shown == [code for (code,) in expected]
        opened.page.click("#basket .chip:has-text('IND-001')")
        opened.page.click("#basket .chip:has-text('BEV-001')")
        opened.wait_for_text("#basket", "Empty basket.")


def test_stream_is_down_until_a_job_connects(browser, url, shop, fresh_mart, screenshots):
    with tab(browser, url) as opened:
        opened.wait_for_text("#state", _HERE)
        shop.connection.close()
        opened.wait_for_text("#state", "the stream is down")
        opened.wait_for_text("#notice", re.compile(r"The last batch was applied at \d\d:\d\d:\d\d"))
        opened.wait_for_text("#notice", "shop-till-1 pid 4711, epoch 1")
        opened.page.screenshot(path=screenshots / "live_page_stream_down.png")
        shop.connection = connect(fresh_mart.writer_dsn)
        opened.wait_for_text("#state", _HERE)
        assert not opened.page.locator("#notice").is_visible()


def test_the_stream_waits_for_a_lock(browser, url, shop, fresh_mart):
    shop.age(minutes=60)
    with (
        closing(psycopg2.connect(fresh_mart.owner_dsn, application_name="a migration")) as other,
        other.cursor() as cursor,
        ThreadPoolExecutor(1) as pool,
        tab(browser, url) as opened,
    ):
        cursor.execute("LOCK TABLE mart.invoice")
        counting = pool.submit(shop.connection.cursor().execute, "TABLE mart.invoice LIMIT 1")
        try:
            opened.wait_for_text("#state", "the stream waits", seconds=60)  # a wait is told of after 10 s
            opened.wait_for_text("#notice", "for a lock of mart.invoice, held by pid")
            opened.wait_for_text("#notice", "of mart_owner (a migration)")
        finally:
            other.rollback()
        counting.result(60)
        shop.connection.rollback()
        opened.wait_for_text("#state", "no new invoice for 60 min")


def test_quiet_shop_is_no_alarm(browser, url, shop):
    shop.age(minutes=60)
    with tab(browser, url) as opened:
        opened.wait_for_text("#state", "no new invoice for 60 min")
        assert not opened.page.locator("#notice").is_visible()


def test_postgresql_away_is_said_and_the_page_recovers(browser, shop, fresh_mart, sold, screenshots):
    wire = Wire(fresh_mart.reader_dsn)
    with served(wire.dsn) as page, tab(browser, page.url(), "phone") as opened:
        before = f"{total(fresh_mart):,}"
        opened.wait_for_text("[data-column=invoices] dd", before)
        wire.cut()
        opened.wait_for_text("#state", "PostgreSQL is away")
        opened.wait_for_text("#notice", "What you see is the last that it said")
        assert opened.figure("invoices") == before
        opened.page.screenshot(path=screenshots / "live_page_postgresql_away.png")
        shop.apply(sold[-500:])
        wire.mend()
        opened.wait_for_text("[data-column=invoices] dd", f"{total(fresh_mart):,}")
        assert not opened.page.locator("#notice").is_visible()
    wire.cut()


def test_page_server_away_is_said(browser, shop, fresh_mart):
    with served(fresh_mart.reader_dsn) as page, tab(browser, page.url(), may_log="net::ERR_") as opened:
        opened.wait_for_text("#state", _HERE)
        page.process.terminate()
        opened.wait_for_text("#state", "page server is away")


def test_empty_mart_has_empty_states(browser, fresh_mart, screenshots):
    from tests.dashboards.shop import Shop

    empty = Shop(fresh_mart.owner_dsn, fresh_mart.writer_dsn)
    with served(fresh_mart.reader_dsn) as page, tab(browser, page.url()) as opened:
        opened.wait_for_text("#state", "waiting for the first invoice")
        opened.wait_for_text("#card-quarantine", "Nothing in quarantine")
        opened.wait_for_text("#card-top_rules", "No rules yet")
        opened.wait_for_text("#card-newest_moves", "Nobody has moved yet.")
        opened.wait_for_text("#card-segments_last_hour", "Nothing to show yet.")
        assert opened.figure("invoices") == "0"
        opened.page.screenshot(path=screenshots / "live_page_empty.png", full_page=True)
    empty.close()


def test_database_without_a_mart_names_the_command(browser, fresh_mart):
    with served(fresh_mart.reader_dsn) as page, tab(browser, page.url()) as opened:
        opened.wait_for_text("#notice", "retail-mart migrate")


@pytest.mark.parametrize("width", [1400, 1100, 960, 700, 550, 390])
def test_no_table_or_figure_is_cut(browser, url, shop, fresh_mart, width):
    cut = (
        "[...document.querySelectorAll('.scroll, .figure, input, .code, td, .bars .value')].filter((e) =>"
        " e.offsetParent && e.scrollWidth > e.clientWidth + 1).map((e) => `${e.className} ${e.textContent.slice(0, 40)}`)"
    )
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute(
            "UPDATE mart.segment_change SET invoice = 'L240106135500ab12-' || right(invoice, 6)"
        )  # as `live`
    with tab(browser, url) as opened:
        opened.page.set_viewport_size({"width": width, "height": 800})
        opened.wait_for_text("#card-newest_moves", "L240106135500ab12")
        opened.page.locator("#card-at_risk tbody tr").first.wait_for()
        assert opened.page.evaluate(cut) == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        opened.page.locator("#card-at_risk tbody a").first.click()
        opened.page.locator("#customer .figures").wait_for()
        assert opened.page.evaluate(cut) == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_shows_every_cell_with_its_columns_name_and_figures_in_pairs(browser, url):
    with tab(browser, url, "phone") as opened:
        cell = opened.page.locator("#card-newest_moves tbody tr:first-child td").last
        cell.scroll_into_view_if_needed()
        assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"Invoice"'
        assert cell.is_visible()
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= WIDTHS["phone"][0]
        opened.page.locator("#card-at_risk tbody a").first.click()
        figures = opened.page.locator("#customer .figure")
        figures.first.wait_for()
        corners = [figure.bounding_box() for figure in figures.all()]
        assert len({corner["y"] for corner in corners}) == 2
        assert len({corner["x"] for corner in corners}) == 2
