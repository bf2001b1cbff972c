"""The report in headless Chromium. `ESC_REPORT_SHOTS=folder` keeps the pictures, for a person to look at."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from esc_skills.evolve.report import report_html

from .chromium import Chromium, installed
from .composed_run import compose_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed() is None, reason="no Chromium on this machine (apt-get install chromium)"),
]

OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
WIDTH = "document.documentElement.scrollWidth"
"""Of the content; a phone widens its window where that is wider than the screen, so `innerWidth` says nothing."""
PALE = """(() => {
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const parsed = colour => {
    const [r, g, b, a = 1] = numbers(colour);
    return colour.startsWith('color(') ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = parsed(getComputedStyle(node).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 1];
  };
  const found = {};
  let seen = 0;
  for (const node of document.querySelectorAll('body *')) {
    if (![...node.childNodes].some(c => c.nodeType === 3 && c.textContent.trim())) continue;
    if (!node.checkVisibility() || ['title', 'desc'].includes(node.localName)) continue;
    const style = getComputedStyle(node);
    const [a, b] = [parsed(node.localName === 'text' ? style.fill : style.color), ground(node)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (ratio < 4.5) found[`${node.localName}.${node.className} ${node.textContent.slice(0, 20)}`] = ratio.toFixed(2);
  }
  return {seen, found};
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    path.write_text(report_html(compose_run(folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    binary = installed()
    assert binary
    with Chromium(binary, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("ESC_REPORT_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(browser: Chromium, report: Path):
    browser.look(1280)
    browser.open(report)
    assert browser.value("document.title").startswith("Evolution of bank S0")
    assert browser.value("[...document.querySelectorAll('h2')].map(h => h.textContent)") == [
        "Outcome", "What was run", "Scores", "Lineage of skills", "Skills by scenario", "Candidates", "Findings",
        "Sealed result", "Cost", "Commands",
    ]  # fmt: skip
    browser.value(OPEN_ALL)
    events = browser.events
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked == [report.as_uri()]
    bad = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
    assert [event for event in events if event["method"] in bad] == []


def test_it_folds_without_scripts(browser: Chromium, report: Path):
    browser.look(1280)
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        closed = "document.querySelectorAll('.attempt:not([open])').length"
        before = browser.value(closed)
        browser.value("document.querySelector('.attempt:not([open]) summary').scrollIntoView()")
        at = browser.value(
            "(() => {const r = document.querySelector('.attempt:not([open]) summary').getBoundingClientRect();"
            "return [r.x + 5, r.y + r.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            browser.ask("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)
        assert before == 10 and browser.value(closed) == 9
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("desktop", 1280, False), ("phone", 390, False), ("dark", 1280, True)]
)
def test_it_fits_and_can_be_read(browser: Chromium, report: Path, shots: Path, name: str, width: int, dark: bool):
    browser.look(width, dark=dark)
    browser.open(report)
    picture = browser.picture(shots / f"{name}.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 100_000
    assert browser.value(WIDTH) == width
    dark_page = browser.value("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark_page == dark
    browser.value(OPEN_ALL)
    assert browser.value(WIDTH) == width
    pale = browser.value(PALE)
    assert pale["seen"] > 1000 and pale["found"] == {}
    small = "Math.min(...[...document.querySelectorAll('main *')].map(n => parseFloat(getComputedStyle(n).fontSize)))"
    assert browser.value(small) >= 10


def test_print_opens_what_is_folded(browser: Chromium, report: Path):
    browser.look(800, dark=True, media="print")
    browser.open(report)
    shown = "document.querySelector('.attempt:not([open]) .facts').checkVisibility({contentVisibilityAuto: true})"
    assert browser.value(shown)
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert re.fullmatch("none", browser.value("getComputedStyle(document.querySelector('nav')).display"))
