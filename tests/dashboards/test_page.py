"""The live page in a real browser: it moves by itself, says what is wrong, and asks nobody but its own server."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest

from dashboards.cards import GROUPS, cards
from mart.connection import connect
from mart.migrate import migrate
from tests.builders.mart_rows import rows
from tests.builders.served import served
from tests.builders.wire import Wire
from tests.dashboards.browser import WIDTHS, tab

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
            "#customer [data-metric=r] .hint",
            re.compile(r"rank \d+ of \d+, 1 is the best · .+ below the next quintile"),
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
        opened.wait_for_text("#customer", "No purchases found for nobody.")


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
        opened.wait_for_text("#basket", "The basket is empty")


def test_stream_is_down_until_a_job_connects(browser, url, shop, fresh_mart, screenshots):
    with tab(browser, url) as opened:
        opened.wait_for_text("#state", _HERE)
        shop.connection.close()
        opened.wait_for_text("#state", "the stream is down")
        opened.wait_for_text("#notice", re.compile(r"The last batch was applied at \d\d:\d\d:\d\d"))
        details = opened.page.locator("#notice details")  # whose process it was is for who must find the cause
        assert "pid 4711" not in opened.page.locator("#notice").inner_text()
        details.locator("summary").press("Enter")
        opened.wait_for_text("#notice", "shop-till-1 pid 4711, epoch 1")
        assert details.get_attribute("open") is not None
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
            opened.wait_for_text("#state", "the stream is waiting", seconds=60)  # a wait is told of after 10 s
            opened.wait_for_text("#notice", "for a lock on mart.invoice, held by pid")
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


def test_postgresql_unavailable_is_said_and_the_page_recovers(browser, shop, fresh_mart, sold, screenshots):
    wire = Wire(fresh_mart.reader_dsn)
    with served(wire.dsn) as page, tab(browser, page.url(), "phone") as opened:
        before = f"{total(fresh_mart):,}"
        opened.wait_for_text("[data-column=invoices] dd", before)
        wire.cut()
        opened.wait_for_text("#state", "PostgreSQL is unreachable")
        opened.wait_for_text("#notice", "Showing the last known data")
        assert opened.figure("invoices") == before
        opened.page.screenshot(path=screenshots / "live_page_postgresql_unavailable.png")
        shop.apply(sold[-500:])
        wire.mend()
        opened.wait_for_text("[data-column=invoices] dd", f"{total(fresh_mart):,}")
        assert not opened.page.locator("#notice").is_visible()
    wire.cut()


def test_page_server_unavailable_is_said(browser, shop, fresh_mart):
    with served(fresh_mart.reader_dsn) as page, tab(browser, page.url(), may_log="net::ERR_") as opened:
        opened.wait_for_text("#state", _HERE)
        page.process.terminate()
        opened.wait_for_text("#state", "page server is unreachable")


def test_empty_mart_has_empty_states(browser, fresh_mart, screenshots):
    from tests.dashboards.shop import Shop

    empty = Shop(fresh_mart.owner_dsn, fresh_mart.writer_dsn)
    with served(fresh_mart.reader_dsn) as page, tab(browser, page.url()) as opened:
        opened.wait_for_text("#state", "waiting for the first invoice")
        opened.wait_for_text("#card-quarantine", "The quarantine is empty")
        opened.wait_for_text("#card-top_rules", "No rules yet")
        opened.wait_for_text("#card-newest_moves", "No moves yet")
        opened.wait_for_text("#card-segments_last_hour", "No data yet")
        assert opened.figure("invoices") == "0"
        opened.page.screenshot(path=screenshots / "live_page_empty.png", full_page=True)
    empty.close()


def test_a_customer_asked_while_postgresql_is_unreachable_appears_when_it_is_back(browser, shop, fresh_mart):
    [(customer,)] = rows(fresh_mart.reader_dsn, "SELECT min(customer_id) FROM mart.customer_segmentation")
    wire = Wire(fresh_mart.reader_dsn)
    wire.cut()
    with served(wire.dsn) as page, tab(browser, page.url(), may_log="status of 503") as opened:
        opened.page.fill("#find input", customer)
        opened.page.press("#find input", "Enter")
        opened.wait_for_text(
            "#customer", "PostgreSQL is unreachable: this customer appears automatically when it is back."
        )
        assert "connection" not in opened.page.locator("#notice").inner_text()  # what the driver says: in the details
        wire.mend()
        opened.page.locator("#customer .figures").wait_for()
    wire.cut()


def test_figures_of_the_last_batch_are_marked_while_the_shop_is_quiet(browser, url, shop, sold):
    dot = "getComputedStyle(document.querySelector('#state i')).backgroundColor"
    marks = (
        "Object.fromEntries([...document.querySelectorAll('#card-headline .figure')].map((e) =>"
        " [e.dataset.column, getComputedStyle(e.querySelector('dt'), '::after').content]))"
    )
    with tab(browser, url) as opened:
        opened.wait_for_text("#state", "live")
        assert set(opened.page.evaluate(marks).values()) == {"none"}
        live = opened.page.evaluate(dot)
        shop.age(minutes=60)
        opened.wait_for_text("#state", "no new invoice for 60 min")
        found = opened.page.evaluate(marks)
        assert {name for name, mark in found.items() if mark == '" of the last batch"'} == {"latency", "delay"}
        assert opened.page.evaluate(dot) != live


def test_business_comes_first_and_operations_after(browser, url):
    with tab(browser, url) as opened:
        opened.page.locator("#card-headline").wait_for()
        shown = [
            node.get_attribute("id").removeprefix("card-") for node in opened.page.locator("#overview .card").all()
        ]
        by_group = {group: [card.name for card in cards() if card.group == group] for group in GROUPS}
        assert shown == [*by_group["now"], *by_group["business"], "basket", *by_group["operations"]]
        assert opened.page.locator("#overview h2:visible").all_inner_texts() == ["Now", "Business", "Operations"]


def test_the_zone_of_a_mart_without_a_job_is_the_settings(browser, fresh_mart):
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner:
        migrate(owner)
    with served(fresh_mart.reader_dsn, SHOP_TIME_ZONE="Europe/London") as page, tab(browser, page.url()) as opened:
        opened.wait_for_text("#notice", "No batch applied yet.")
        opened.wait_for_text("#foot", "Times are in Europe/London.")
        opened.wait_for_text("#card-newest_moves", "No moves yet")
        assert opened.page.locator("#card-segments_last_hour").bounding_box()["height"] < 120  # empty ones are compact


def test_database_without_a_mart_names_the_command(browser, fresh_mart):
    with served(fresh_mart.reader_dsn) as page, tab(browser, page.url()) as opened:
        opened.wait_for_text("#notice", "retail-mart migrate")


@pytest.mark.parametrize("width", [1400, 1100, 960, 700, 550, 390])
def test_no_table_or_figure_is_cut(browser, url, shop, fresh_mart, width):
    cut = (
        "[...document.querySelectorAll('.scroll, .figure, input, .code, td, .bars .value')].filter((e) =>"
        " e.offsetParent && e.scrollWidth > e.clientWidth + 1)"
        ".map((e) => `${e.className} ${e.textContent.slice(0, 40)}`)"
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


def test_one_batch_that_caught_up_does_not_flatten_the_latency(browser, url, shop, fresh_mart, sold):
    for n in range(9):
        shop.apply(sold[n - 9 : n - 8 or None], took=timedelta(minutes=2) if n == 4 else timedelta(milliseconds=200))
    minutes_ago = ", ".join(
        f"{at} = {at} - make_interval(mins => (SELECT max(id) FROM mart.batch)::int - id::int)"
        for at in ("started_at", "applied_at", "oldest_kafka_timestamp", "newest_kafka_timestamp")
    )
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute(f"UPDATE mart.batch SET {minutes_ago}")  # one a minute
    with tab(browser, url) as opened:
        opened.wait_for_text("#card-latency .chart", "Peak 2.0 min, off the scale")
        labels = opened.page.locator("#card-latency svg text").all_text_contents()
        assert [label for label in labels if label.endswith(" ms")]
        assert not [label for label in labels if label.endswith((" s", " min")) and not label.startswith("Peak")]


def test_the_labels_of_an_axis_are_in_one_unit(browser, url):
    labels = (
        "async ([most, unit, integer]) => { const { axis } = await import('/static/format.js');"
        " const { interval, max, label } = axis(most, unit, integer);"
        " return [...Array(Math.round(max / interval) + 1).keys()].map((n) => label(n * interval)); }"
    )
    expected = {
        (12_400, None, True): ["0", "5 k", "10 k", "15 k"],
        (9_100, None, True): ["0", "5,000", "10,000"],
        (2, None, True): ["0", "1", "2"],
        (0, None, True): ["0", "1"],
        (420_000_000, "currency", False): ["0", "Rp 200 M", "Rp 400 M", "Rp 600 M"],
        (110_000, "ms", False): ["0", "1 min", "2 min"],
        (640, "ms", False): ["0", "250 ms", "500 ms", "750 ms"],
        (0.6, "percent", False): ["0", "20 %", "40 %", "60 %"],
    }
    with tab(browser, url) as opened:
        opened.page.locator("#card-headline .figure").first.wait_for()
        assert {asked: opened.page.evaluate(labels, list(asked)) for asked in expected} == expected


@pytest.mark.parametrize("width", [1400, 1100, 390])
def test_labels_of_the_flows_stand_beside_their_bands(browser, url, width):
    edges = (
        "(() => { const of = (what) => [...document.querySelectorAll(`#card-flows svg ${what}`)]"
        ".map((e) => e.getBoundingClientRect()).filter((box) => box.width);"
        " const band = of('path').sort((a, b) => b.width - a.width)[0], from = band.left, to = band.right;"
        " const card = document.querySelector('#card-flows').getBoundingClientRect();"
        " return of('text').map((t) => [t.left >= card.left && t.right <= card.right,"
        " t.right <= from + 1 || t.left >= to - 1]).flat(); })()"
    )
    with tab(browser, url) as opened:
        opened.page.set_viewport_size({"width": width, "height": 800})
        opened.page.locator("#card-flows svg text").first.wait_for()
        found = opened.page.evaluate(edges)
        assert len(found) > 10
        assert all(found)


def test_the_basket_matches_names_and_says_what_it_does_not_know(browser, url):
    with tab(browser, url) as opened:

        def enter(words: str) -> None:
            opened.page.fill("#product", words)
            opened.page.press("#product", "Enter")

        chips = opened.page.locator("#basket .chips .chip")
        enter("spons")  # one product's name holds it
        opened.wait_for_text("#basket .chips", "HHLD-002 Spons Cuci Piring")
        enter("zzz")
        opened.wait_for_text("#basket .choice", "No product of the current rules matches “zzz”")
        assert chips.count() == 1
        assert opened.page.input_value("#product") == "zzz"
        enter("teh")  # two do
        opened.wait_for_text("#basket .choice", "2 products match “teh”")
        assert chips.count() == 1
        opened.page.locator("#basket .pick").first.press("Enter")
        opened.wait_for_text("#basket .chips", "Teh Botol Sosro 350 ml")
        assert opened.page.evaluate("document.activeElement.id") == "product"
        chips.first.press("Enter")
        opened.wait_for_count("#basket .chips .chip", 1)
        assert opened.page.evaluate("document.activeElement.className") == "chip"
