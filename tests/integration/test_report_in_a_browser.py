"""
The report as a browser shows it: every picture is drawn, in light and dark, wide and narrow.

`make report-check` runs this alone and keeps the page and what the browser showed of it in
`.report/`, for a person to look at.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from consumer.evaluation.reporting import Report, Request, write_report
from tests.generated_decisions import draw_decisions, write_decisions, write_latencies

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PICTURES = {
    "money",
    "precision-recall",
    "roc",
    "card-precision",
    "fraud-scores",
    "anomaly-scores",
    "differences",
    "by-day",
    "money-by-day",
    "calibration",
    "latency",
}
DATA_COLOURS = ("blue", "orange", "red", "yellow", "green")
SIZES = ((1200, 900), (390, 844))
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


Box = dict[str, float]
# Of each picture its box in the page, and its texts with theirs.
MEASURE = """() => Object.fromEntries([...document.querySelectorAll("figure svg")].map(svg => {
    const box = each => {
        const {x, y, width, height} = each.getBoundingClientRect();
        return {x: x + scrollX, y: y + scrollY, width, height};
    };
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, box(text)]);
    return [svg.closest("figure").id, {box: box(svg), texts}];
}))"""
COLOURS = """() => [["svg text", "fill"], ["figure", "backgroundColor"]].map(([which, what]) =>
    getComputedStyle(document.querySelector(which))[what].match(/[0-9.]+/g).map(Number))"""


@dataclass(slots=True)
class Shown:
    """A page with a picture of it, what it complained about and what it tried to load."""

    page: Page
    complaints: list[str]
    loaded: list[str]
    seen: "np.typing.NDArray[np.float64]"
    measured: dict[str, Any]

    def cut(self, box: Box) -> "np.typing.NDArray[np.float64]":
        """The pixels in *box*."""
        x, y = round(box["x"]), round(box["y"])
        return self.seen[y : y + round(box["height"]), x : x + round(box["width"])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("FRAUDSTREAM_REPORT_CHECK")
    return Path(kept) if kept else tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    data = tmp_path_factory.mktemp("decisions")
    decisions = write_decisions(data / "decisions.parquet", draw_decisions())
    write_latencies(decisions, 6000)
    other = write_decisions(data / "other.parquet", draw_decisions(skill=2.3))
    return write_report(
        Request(
            decisions=[decisions],
            out=folder,
            currency="EUR",
            challengers={"retrained": [other]},
            k=20,
            resamples=50,
        )
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = (os.environ.get("FRAUDSTREAM_BROWSER", ""), *BROWSERS)
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed, FRAUDSTREAM_BROWSER names none")
    with sync_playwright() as driver:
        # As root, as in most containers, Chromium has no sandbox; it only sees our own file.
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module", params=[(s, *z) for s in SCHEMES for z in SIZES], ids=str)
def shown(
    request: pytest.FixtureRequest, browser: Browser, report: Report, folder: Path
) -> Iterator[Shown]:
    scheme, width, height = request.param
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    complaints: list[str] = []
    loaded: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: loaded.append(asked.url))
    assert report.page_path is not None
    page.goto(report.page_path.resolve().as_uri())
    taken = page.screenshot(path=folder / f"{scheme}-{width}.png", full_page=True)
    yield Shown(page, complaints, loaded, pixels(taken), page.evaluate(MEASURE))
    context.close()


def pixels(png: bytes) -> "np.typing.NDArray[np.float64]":
    with Image.open(BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def test_every_picture_is_there_and_named(report: Report, shown: Shown) -> None:
    assert set(shown.measured) == {f"plot-{name}" for name in PICTURES}
    for name in PICTURES:
        svg = shown.page.locator(f"#plot-{name} svg[role=img]")
        title = shown.page.locator(f"#{svg.get_attribute('aria-labelledby')}")
        assert len(title.text_content() or "") > 40, name


def test_no_picture_is_empty(report: Report, shown: Shown) -> None:
    for name, told in shown.measured.items():
        assert is_drawn(shown.cut(told["box"])), name


def test_a_picture_without_its_data_would_be_found_empty(report: Report, browser: Browser) -> None:
    assert report.page_path is not None
    page = browser.new_page()
    page.goto(report.page_path.resolve().as_uri())
    colours = ", ".join(f'svg [style*="var(--{name})"]' for name in DATA_COLOURS)
    page.add_style_tag(content=f"{colours} {{ visibility: hidden; }}")
    seen, measured = pixels(page.screenshot(full_page=True)), page.evaluate(MEASURE)
    page.close()
    shown = Shown(page, [], [], seen, measured)
    assert [name for name, told in measured.items() if is_drawn(shown.cut(told["box"]))] == []


def is_drawn(seen: "np.typing.NDArray[np.float64]") -> bool:
    """Whether a picture shows data: its middle varies, and there is a line or bar in colour."""
    height, width, _ = seen.shape
    middle = seen[height // 4 : -height // 4, width // 4 : -width // 6]
    # Ink, grid and paper are nearly grey.
    coloured = (np.ptp(seen, axis=2) > 60).mean()
    return bool(min(height, width) > 200 and middle.std() > 4 and coloured > 0.001)


def test_axes_have_labels_and_numbers_that_lie_inside_their_picture(
    report: Report, shown: Shown
) -> None:
    for name, told in shown.measured.items():
        words = [word for word, _ in told["texts"]]
        assert len(words) >= 6, name
        assert any(len(word) > 4 and not word[0].isdigit() for word in words), name
        for word, place in told["texts"]:
            assert lies_inside(place, told["box"]), (name, word)


def lies_inside(inner: Box, outer: Box, tolerance: float = 2.0) -> bool:
    return all(
        inner[start] >= outer[start] - tolerance
        and inner[start] + inner[size] <= outer[start] + outer[size] + tolerance
        for start, size in (("x", "width"), ("y", "height"))
    )


def test_nothing_is_loaded_and_nothing_complained_about(report: Report, shown: Shown) -> None:
    assert report.page_path is not None
    own = report.page_path.resolve().as_uri()
    assert [url for url in shown.loaded if url != own and not url.startswith("data:")] == []
    assert shown.complaints == []


def test_the_page_never_scrolls_sideways(report: Report, shown: Shown) -> None:
    widths = shown.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert widths[0] <= widths[1]


def test_words_stand_out_from_their_ground(report: Report, shown: Shown) -> None:
    ink, paper = shown.page.evaluate(COLOURS)
    assert contrast(ink, paper) > 7


def contrast(one: list[float], two: list[float]) -> float:
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: list[float]) -> float:
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in (value / 255 for value in colour[:3])
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
