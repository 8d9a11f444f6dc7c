"""The page for those who do not see well, or have a keyboard alone: axe finds nothing, and nothing takes the focus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dashboards.cards import cards
from tests.builders.mart_rows import rows
from tests.builders.served import served
from tests.builders.wire import Wire
from tests.dashboards.browser import Tab, tab
from tests.dashboards.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.slow]
SIZES = [(1400, 900), (1100, 800), (390, 844)]


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's script, which this package carries."""
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(opened: Tab) -> list[str]:
    """What axe finds, as `rule: element: why`."""
    found = opened.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [
        f"{rule['id']}: {node['target'][0]}: {node['failureSummary'].splitlines()[1].strip()}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.fixture
def traded(shop, sold) -> Shop:
    """A shop with a past, so that every trend has something to draw."""
    shop.age(minutes=40)
    shop.apply(sold[-500:])
    return shop


def overview(opened: Tab) -> None:
    for card in cards():
        opened.page.locator(f"#card-{card.name} [data-drawn]").wait_for(state="attached", timeout=15_000)


def customer(opened: Tab) -> None:
    opened.page.locator("#card-at_risk tbody a").first.click()
    opened.page.locator("#customer .figures").wait_for()


def basket(opened: Tab) -> None:
    opened.page.fill("#basket input", "IND-001")
    opened.page.press("#basket input", "Enter")
    opened.page.locator("#basket tbody tr").first.wait_for()


@pytest.mark.parametrize("show", [overview, customer, basket], ids=lambda show: show.__name__)
def test_axe_finds_nothing(browser, url, axe, traded, show: Callable[[Tab], None]):
    with tab(browser, url) as opened:
        show(opened)
        assert_accessible(opened, axe)


def test_axe_finds_nothing_while_the_stream_is_down(browser, url, axe, traded):
    with tab(browser, url) as opened:
        overview(opened)
        traded.connection.close()
        opened.page.locator("#notice").wait_for()
        assert_accessible(opened, axe)


def test_axe_finds_nothing_while_postgresql_is_unreachable(browser, axe, traded, fresh_mart):
    wire = Wire(fresh_mart.reader_dsn)
    with served(wire.dsn) as page, tab(browser, page.url()) as opened:
        overview(opened)
        wire.cut()
        opened.wait_for_text("#notice", "PostgreSQL is unreachable.")
        assert_accessible(opened, axe)


def test_axe_finds_nothing_on_an_empty_mart(browser, axe, fresh_mart):
    with empty_page(fresh_mart) as url, tab(browser, url) as opened:
        opened.wait_for_text("#state", "waiting for the first invoice")
        opened.wait_for_text("#card-newest_moves", "No moves yet")
        assert_accessible(opened, axe)


@contextmanager
def empty_page(mart: Any) -> Iterator[str]:
    empty = Shop(mart.owner_dsn, mart.writer_dsn)
    with served(mart.reader_dsn) as page:
        yield page.url()
    empty.close()


def assert_accessible(opened: Tab, axe: str) -> None:
    opened.page.evaluate(axe)
    found = {}
    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width, height in SIZES:
            opened.page.set_viewport_size({"width": width, "height": height})
            found[scheme, width] = violations(opened)
    assert [(*where, fault) for where, faults in found.items() for fault in faults] == []


def held(opened: Tab) -> str:
    """What has the keyboard's focus, in words."""
    return opened.page.evaluate(
        "(({ tagName, textContent, name }) => `${tagName} ${name || textContent}`)(document.activeElement)"
    )


def test_a_refresh_keeps_the_focus(browser, url, shop, sold):
    with tab(browser, url) as opened:
        link = opened.page.locator("#card-newest_moves tbody tr:first-child a")
        mover = link.inner_text()
        link.focus()
        opened.page.evaluate("window.held = document.activeElement")
        for start in range(-500, 0, 100):  # the rows of five batches push theirs out
            shop.apply(sold[start : start + 100 or None])
            [(newest,)] = rows(shop.owner_dsn, "SELECT customer_id FROM mart.segment_move ORDER BY id DESC LIMIT 1")
            opened.wait_for_text("#card-newest_moves tbody tr:first-child", newest)
            assert held(opened) == f"A {mover}"
            assert opened.page.evaluate("window.held === document.activeElement")
        opened.wait_for_count("#card-newest_moves tbody tr", 11)
        opened.page.focus("#find input")  # once the focus has left, so does the row
        opened.wait_for_count("#card-newest_moves tbody tr", 10)


def test_customer_has_a_title_and_the_focus(browser, url, shop, sold):
    with tab(browser, url) as opened:
        link = opened.page.locator("#card-at_risk tbody a").first
        customer_id = link.inner_text()
        link.focus()
        opened.page.keyboard.press("Enter")
        opened.page.locator("#customer .figures").wait_for()
        assert opened.page.title() == f"Customer {customer_id} · Retail mart"
        assert held(opened).startswith(f"H1 Customer {customer_id}")
        opened.page.keyboard.press("Shift+Tab")
        back = held(opened)
        own = next(invoice for invoice in sold[-500:] if len(invoice.lines) > 1)
        own.customer_id, own.date = customer_id, sold[-1].date
        shop.apply([own])
        opened.wait_for_text("#customer", own.number)
        assert held(opened) == back  # a refresh takes nothing
        opened.page.go_back()
        opened.page.locator("#overview").wait_for(state="visible")
        assert opened.page.title() == "Retail mart"
        assert held(opened) in (f"A {customer_id}", "H1 Overview")  # no longer at risk: their row may be gone


def test_skip_links_lead_past_the_cards(browser, url):
    with tab(browser, url) as opened:
        opened.page.locator("#card-newest_moves tbody tr").first.wait_for()
        opened.page.keyboard.press("Tab")
        assert held(opened) == "A Skip to the content"
        opened.page.keyboard.press("Tab")
        opened.page.keyboard.press("Enter")
        assert held(opened) == "INPUT product"
        opened.page.locator(".skip a").first.focus()
        opened.page.keyboard.press("Enter")
        assert opened.page.evaluate("document.activeElement.id") == "main"
        assert "#" not in opened.page.url


def test_tab_alone_reaches_everything(browser, url, traded):
    with tab(browser, url) as opened:
        overview(opened)
        opened.page.evaluate(
            "for (const [n, e] of document.querySelectorAll('a, button, input').entries()) e.dataset.n = n"
        )
        count, reached = opened.page.locator("[data-n]").count(), set()
        for _ in range(count + 30):
            opened.page.keyboard.press("Tab")
            reached.add(opened.page.evaluate("document.activeElement.dataset.n ?? null"))
        assert reached - {None} == {str(n) for n in range(count)}


def test_about_a_card_opens_by_the_keyboard(browser, url):
    with tab(browser, url) as opened:
        about = opened.page.locator("#card-at_risk .info")
        about.focus()
        assert about.get_attribute("aria-expanded") == "false"
        opened.page.keyboard.press("Enter")
        assert about.get_attribute("aria-expanded") == "true"
        shown = opened.page.locator(f"#{about.get_attribute('aria-controls')}")
        assert shown.is_visible()
        assert re.search("At Risk", shown.inner_text())


def test_arrow_keys_read_a_chart(browser, url, traded):
    with tab(browser, url) as opened:
        opened.page.locator("#card-segments_last_hour svg").wait_for()
        opened.page.focus("#card-segments_last_hour .chart")
        opened.page.keyboard.press("ArrowLeft")
        counts = dict(rows(traded.owner_dsn, "SELECT customer_segment, customers FROM mart.segment_count"))
        opened.wait_for_text("#card-segments_last_hour [role=status]", f"Champions {counts['Champions']}")
        opened.page.focus("#card-flows .chart")
        opened.page.keyboard.press("ArrowLeft")
        opened.wait_for_text("#card-flows [role=status]", re.compile(r"\w+ → \w+"))
