"""A browser without a window, and its tabs at the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@contextmanager
def launched(executable: str) -> Iterator[Any]:
    """The browser; playwright's own download is not used."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=_FLAGS)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A tab of the browser, with what it complained of and whom it asked."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def figure(self, column: str) -> str:
        return self.page.locator(f"[data-column={column}] dd").inner_text()

    def wait_for_text(self, selector: str, text: str | re.Pattern[str], seconds: int = 15) -> None:
        from playwright.sync_api import expect

        expect(self.page.locator(selector)).to_contain_text(text, timeout=seconds * 1000)

    def wait_for_count(self, selector: str, count: int) -> None:
        from playwright.sync_api import expect

        expect(self.page.locator(selector)).to_have_count(count, timeout=15_000)

    def state(self) -> str:
        return self.page.locator("#state").get_attribute("data-state")


@contextmanager
def tab(
    browser: Any, url: str, size: str = "desktop", scheme: str = "light", may_log: str | None = None
) -> Iterator[Tab]:
    """A tab at the page; at its end no error may have been logged and no foreign host asked.

    `may_log`: what the browser itself logs of a request that the test makes fail, as often as the page asks.
    """
    width, height = WIDTHS[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, is_mobile=size == "phone",
        has_touch=size == "phone", reduced_motion="reduce",
    )  # fmt: skip
    opened = Tab(context.new_page())
    opened.page.on("console", lambda m: m.type in ("error", "warning") and opened.complaints.append(m.text))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    context.on("request", lambda request: opened.hosts.add(urlsplit(request.url).hostname))
    opened.page.goto(url)
    yield opened
    complaints = [complaint for complaint in opened.complaints if not (may_log and may_log in complaint)]
    assert complaints == [], complaints  # pytest explains the assertions of test files alone
    assert opened.hosts == {"127.0.0.1"}, opened.hosts
    context.close()
