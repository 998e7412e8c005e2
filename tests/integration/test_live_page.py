"""
The live page as a browser shows it, over a real Redis and the real service in front.

`FRAUDSTREAM_PAGE_CHECK=folder` keeps what the browser showed, for a person to look at.
"""

import gzip
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from consumer.local.redis_server import RedisServer
from consumer.model import Outcome
from tests.page_server import PageServer, serve_page
from tests.rest_service import an_event, running_service, stub_aws

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = Path(__file__).parents[1] / "axe"
WIDE, NARROW = (1440, 900), (390, 844)
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
# So that waits end by what they wait for, also on a busy machine.
PATIENT_MS = 30_000
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
VIOLATIONS = """async () => (await axe.run()).violations
    .filter(each => ["serious", "critical"].includes(each.impact))
    .map(each => [each.id, each.nodes.map(node => node.html.slice(0, 200))])"""
# When an alert was seen in the list, by the clock of the page.
WATCH = """() => new MutationObserver(changes => {
    for (const row of changes.flatMap(each => [...each.addedNodes]))
        window.seen = {...window.seen, [row.textContent]: Date.now()};
}).observe(document.querySelector("#alerts"), {childList: true})"""
SEEN = "who => Object.entries(window.seen ?? {}).find(([text]) => text.includes(who))?.[1]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with (
        RedisServer(directory=tmp_path_factory.mktemp("redis")) as redis,
        serve_page(redis.url) as server,
    ):
        server.bank.decide_for(seconds=60, per_second=8)
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = (os.environ.get("FRAUDSTREAM_BROWSER", ""), *BROWSERS)
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed, FRAUDSTREAM_BROWSER names none")
    expect.set_options(timeout=PATIENT_MS)
    with sync_playwright() as driver:
        # As root, as in most containers, Chromium has no sandbox; it only sees our own server.
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(
    browser: Browser,
    server: PageServer,
    size: tuple[int, int] = WIDE,
    scheme: Scheme = "light",
    *,
    token: bool = True,
) -> Iterator[tuple[Page, list[str]]]:
    """The page, signed in, and what it complained of."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENT_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server.url + (f"/#token={server.new_token()}" if token else "/"))
    yield page, complaints
    context.close()


@pytest.fixture
def page(browser: Browser, server: PageServer) -> Iterator[Page]:
    with opened(browser, server) as (page, _):
        page.wait_for_selector("#alerts button")
        yield page


def keep(page: Page, name: str) -> None:
    """Keep a picture where somebody wants to look at it."""
    folder = os.environ.get("FRAUDSTREAM_PAGE_CHECK")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """What keeps people from using the page: the name of each rule, and the elements."""
    page.evaluate(gzip.decompress((AXE / "axe.min.js.gz").read_bytes()).decode())
    found = page.evaluate(VIOLATIONS)
    return [(name, elements) for name, elements in found]


def test_the_checker_of_accessibility_is_the_one_that_is_named() -> None:
    digest = hashlib.sha256(gzip.decompress((AXE / "axe.min.js.gz").read_bytes())).hexdigest()
    assert digest in (AXE / "README.md").read_text("utf-8")


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_sheet_is_readable_fits_and_complains_of_nothing(
    browser: Browser, server: PageServer, scheme: Scheme, size: tuple[int, int]
) -> None:
    name = f"{scheme}-{size[0]}"
    with opened(browser, server, size, scheme) as (page, complaints):
        page.wait_for_selector("#alerts button")
        page.wait_for_selector("#decisions-chart canvas")
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#tile-p99")).to_contain_text("ms")
        keep(page, name)
        assert page.evaluate(SIDEWAYS) == 0
        assert violations(page) == []
        page.locator("#alerts button", has_text="declined").first.click()
        page.wait_for_selector("#evidence .verdict")
        keep(page, f"{name}-evidence")
        assert page.evaluate(SIDEWAYS) == 0
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.locator("#search-text").fill("card_0003")
        page.keyboard.press("Enter")
        page.wait_for_selector("#results table")
        keep(page, f"{name}-search")
        assert page.evaluate(SIDEWAYS) == 0
        assert violations(page) == []
        assert complaints == []


def test_what_nobody_can_read_would_be_found(page: Page) -> None:
    page.locator("#tile-rate").evaluate("tile => tile.style.color = '#eee'")
    assert [found[0] for found in violations(page)] == ["color-contrast"]


def test_nothing_is_loaded_from_elsewhere(browser: Browser, server: PageServer) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/#token={server.new_token()}")
    page.wait_for_selector("#alerts button", timeout=PATIENT_MS)
    assert asked
    assert [url for url in asked if not url.startswith(server.url)] == []
    context.close()


def test_the_token_leaves_the_address_and_is_good_once(
    browser: Browser, server: PageServer
) -> None:
    token = server.new_token()
    for shown in ("#alerts button", "#token"):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/#token={token}")
        page.wait_for_selector(shown, timeout=PATIENT_MS)
        assert page.url == f"{server.url}/"
        context.close()


def test_whoever_is_not_signed_in_can_enter_a_token(browser: Browser, server: PageServer) -> None:
    with opened(browser, server, token=False) as (page, _):
        page.locator("#token").fill("nonsense")
        page.locator("#signin-form button").click()
        expect(page.locator("#signin-error")).to_contain_text("not known")
        assert violations(page) == []
        page.locator("#token").fill(server.new_token())
        page.locator("#signin-form button").click()
        page.wait_for_selector("#alerts button")


def test_an_alert_is_seen_within_two_seconds_of_its_decision(
    page: Page, server: PageServer
) -> None:
    page.evaluate(WATCH)
    delays = []
    for number in range(3):
        card = f"card_fresh_{number}"
        before_ms = page.evaluate("Date.now()")
        server.bank.decide(Outcome.DECLINE, card_id=card)
        page.wait_for_function(SEEN, arg=card)
        delays.append(page.evaluate(SEEN, card) - before_ms)
    # What a busy machine delays once it does not delay thrice.
    assert min(delays) < 2_000


def test_decisions_move_the_figures(page: Page, server: PageServer) -> None:
    stop = threading.Event()

    def decide() -> None:
        while not stop.wait(0.02):
            server.bank.decide()

    thread = threading.Thread(target=decide)
    thread.start()
    try:
        rate = "() => parseFloat(document.querySelector('#tile-rate').textContent) > 3"
        page.wait_for_function(rate)
        told = page.locator("#decisions-chart").get_attribute("aria-label") or ""
        assert "approved" in told
        expect(page.locator("#reasons li").first).to_contain_text("unusual amount")
        expect(page.locator("#daemons")).to_contain_text("open")
        expect(page.locator("#tile-lag")).to_have_text("3 s")
    finally:
        stop.set()
        thread.join()


def test_evidence_says_what_spoke_against_a_transaction_and_who_its_neighbours_are(
    page: Page, server: PageServer
) -> None:
    identity = server.bank.decide(Outcome.DECLINE, card_id="card_told", merchant_id="shop_told")
    server.bank.decide(card_id="card_told", merchant_id="elsewhere")
    page.locator("#alerts button", has_text="card_told").click()
    sheet = page.locator("#evidence")
    expect(sheet.locator("h2")).to_have_text(identity)
    for told in (
        "€412.50",
        "fraud 0.930",
        "velocity_card_1h@3",
        "more transactions in an hour than usual",
        "card count 1h = 7",
        "+2.31 towards fraud",
        "times card mean 30d",
        "usual 0.03",
        "The event names no terminal",
        "elsewhere",
    ):
        expect(sheet).to_contain_text(told)
    sheet.locator("section", has_text="Same card").locator("button.link").first.click()
    expect(sheet.locator(".verdict")).to_contain_text("approved")


def test_a_label_goes_there_and_comes_back(page: Page, server: PageServer) -> None:
    server.bank.decide(Outcome.REVIEW, card_id="card_labelled")
    page.locator("#alerts button", has_text="card_labelled").click()
    page.locator("#evidence .label-fraud").click()
    expect(page.locator("#evidence .verdict")).to_contain_text("labelled fraud by analyst")
    expect(page.locator("#evidence .labelling [role=status]")).to_have_text("Noted as fraud.")
    page.reload()
    page.locator("#alerts button", has_text="card_labelled").click()
    expect(page.locator("#evidence .verdict")).to_contain_text("labelled fraud by analyst")
    page.keyboard.press("Escape")
    page.locator("#search-text").fill("card_labelled")
    page.keyboard.press("Enter")
    expect(page.locator("#results tbody tr")).to_contain_text("fraud")


def test_a_search_finds_pages_and_opens(page: Page, server: PageServer) -> None:
    for _ in range(30):
        server.bank.decide(card_id="card_often")
    page.keyboard.press("/")
    page.keyboard.type("card_often")
    page.keyboard.press("Enter")
    rows = page.locator("#results tbody tr")
    expect(rows).to_have_count(25)
    page.locator("#results button", has_text="Show more").click()
    expect(rows).to_have_count(30)
    rows.first.locator("button").click()
    expect(page.locator("#evidence")).to_contain_text("card_often")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#search-text").fill("4111111111111111")
    page.keyboard.press("Enter")
    expect(page.locator("#results .problem")).to_contain_text("no card number is stored")


def test_what_an_event_says_is_never_markup(page: Page, server: PageServer) -> None:
    server.bank.decide(Outcome.DECLINE, card_id="<img src=x onerror=alert(1)>")
    row = page.locator("#alerts button", has_text="<img src=x")
    expect(row).to_have_count(1)
    row.click()
    expect(page.locator("#evidence")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img, dialog img").count() == 0


def test_the_keyboard_alone_suffices(page: Page, server: PageServer) -> None:
    server.bank.decide(Outcome.DECLINE, card_id="card_key_1")
    server.bank.decide(Outcome.DECLINE, card_id="card_key_2")
    expect(page.locator("#alerts button").first).to_contain_text("card_key_2")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert "card_key_2" in page.evaluate(focused)
    page.keyboard.press("ArrowDown")
    assert "card_key_1" in page.evaluate(focused)
    page.keyboard.press("Enter")
    expect(page.locator("#evidence")).to_contain_text("card_key_1")
    page.keyboard.press("Escape")
    assert "card_key_1" in page.evaluate(focused)


def test_the_list_holds_still_while_somebody_is_in_it(page: Page, server: PageServer) -> None:
    page.locator("#alerts button").first.focus()
    before = page.evaluate("document.activeElement.textContent")
    server.bank.decide(Outcome.DECLINE, card_id="card_waits")
    expect(page.locator("#alerts-new")).to_contain_text("1 new")
    assert page.locator("#alerts button").first.text_content() == before
    page.locator("#alerts-new").click()
    expect(page.locator("#alerts button").first).to_contain_text("card_waits")


def test_overload_is_shown_and_passes(page: Page, server: PageServer) -> None:
    server.overloaded = True
    try:
        page.locator("#search-text").fill("card_0001")
        page.keyboard.press("Enter")
        expect(page.locator("#results .problem")).to_contain_text("overloaded")
        page.locator("#results .close").click()
        page.reload()
        expect(page.locator("#connection")).to_have_text("overloaded")
        expect(page.locator("#notice")).to_contain_text("overloaded")
        keep(page, "overloaded")
        assert violations(page) == []
    finally:
        server.overloaded = False
    page.locator("#notice-retry").click()
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#notice")).to_be_hidden()


def test_a_lost_connection_is_shown_and_what_happened_meanwhile_comes_after(
    page: Page, server: PageServer
) -> None:
    server.stop()
    try:
        expect(page.locator("#connection")).to_have_text("connection lost")
        expect(page.locator("#notice")).to_contain_text("lost")
        keep(page, "lost")
        for number in range(5):
            server.bank.decide(Outcome.DECLINE, card_id=f"card_meanwhile_{number}")
    finally:
        server.start()
    page.locator("#notice-retry").click()
    expect(page.locator("#connection")).to_have_text("live")
    missed = page.locator("#alerts button", has_text="card_meanwhile_")
    expect(missed).to_have_count(5)
    cards = [text[text.index("card_meanwhile_") :][:16] for text in missed.all_text_contents()]
    assert cards == [f"card_meanwhile_{number}" for number in range(4, -1, -1)]


def test_the_service_itself_shows_what_it_decides_and_takes_labels(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        RedisServer(directory=tmp_path) as redis,
        stub_aws(tmp_path) as aws,
        running_service(tmp_path / "serve", {"REDIS__URL": redis.url, **aws}) as service,
    ):
        (link,) = re.findall(r"http://\S+#token=\S+", service.log.read_text())
        context = browser.new_context()
        context.set_default_timeout(PATIENT_MS)
        page = context.new_page()
        page.goto(link)
        expect(page.locator("#connection")).to_have_text("live")
        assert service.predict(an_event("tx_shown", card_id="card_shown")).status == 200
        page.wait_for_function("() => parseFloat(document.querySelector('#tile-rate').textContent)")
        expect(page.locator("#daemons")).to_contain_text("closed")
        expect(page.locator("#daemons")).to_contain_text("api.daemon_urls")
        page.locator("#search-text").fill("card_shown")
        page.keyboard.press("Enter")
        page.locator("#results tbody button").click()
        page.locator("#evidence .label-fraud").click()
        expect(page.locator("#evidence .verdict")).to_contain_text("labelled fraud by analyst")
        assert service.get("/v1/transactions/tx_shown").fields["label"]["label"] == "fraud"
        alerts = service.get("/v1/alerts?tail=true")
        assert (alerts.status, alerts.fields["lost"]) == (200, False)
        metrics = service.get("/metrics", signed=False).body.decode()
        assert 'route="/v1/alerts"' in metrics
        assert 'route="/v1/evidence/{transaction_id}"' in metrics
        # A stream that is open does not keep the service from ending.
        assert service.stop() == 0
        expect(page.locator("#connection")).to_have_text("connection lost")
        context.close()
