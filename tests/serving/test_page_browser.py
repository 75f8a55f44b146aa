"""The page in a real browser: typed into, driven by keys, looked at in light and dark, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_teller import Teller
from page_cases import Browser, write_page_run
from serving_cases import serving

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PAGES = ("/", "/?q=notice+tenant&mode=hybrid", "/ask?q=when+must+notice+be+given", "/compare?q=lease", "/labels",
         "/passage?id=zh-1&q=通知", "/?q=landlord+eviction&mode=words")  # fmt: skip
STICKS_OUT = """[...document.querySelectorAll("body *")].filter(one =>
  !one.closest(".hidden, .skip, .scroll, code, svg, #tabs, .box .go") &&
  one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5
).map(one => one.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Iterator[str]:
    run = write_page_run(tmp_path_factory.mktemp("page") / "run", tiny_model)
    with serving(run, name="tiny", labels=True) as (found, _):
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser here: looked for {', '.join(NAMES)}")
    browser = Browser(program, tmp_path_factory.mktemp("profile"), "--accept-lang=en")
    yield browser
    browser.close()


@pytest.fixture
def browser(shared: Browser) -> Browser:
    shared.events.clear()
    return shared


def colour(browser: Browser) -> int:
    return sum(browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"))


def test_results_come_while_typing_and_only_the_last_counts(browser: Browser, address: str, tmp_path: Path) -> None:
    browser.open(address + "/")
    browser.until("document.activeElement.id == 'q' && window.htmx")
    browser.type("notice tenant")
    browser.until("document.querySelectorAll('.hit').length == 10")
    browser.until("location.search == '?q=notice%20tenant'")
    assert browser.run("document.querySelector('#status').getAttribute('aria-live')") == "polite"
    browser.until("document.querySelector('#status').textContent.startsWith('The first 10 results')")
    assert browser.run("document.querySelectorAll('.hit mark').length") > 5
    assert "q=notice+tenant" in browser.run("document.querySelector('#tabs a:nth-child(2)').href")
    searches = [url for url in browser.requested() if "q=" in url]
    assert 1 <= len(searches) < 8, "one for a pause, not one for a key"
    assert browser.complaints() == []
    assert len(browser.screenshot(tmp_path / "typed.png")) > 10_000


def test_keys_move_through_the_results_and_open_them(browser: Browser, address: str) -> None:
    browser.open(address + "/?q=notice+tenant")
    browser.until("window.htmx")
    browser.press("j")
    browser.press("j")
    browser.press("k")
    browser.press("j")
    at = "document.activeElement.closest('.hit')"
    assert browser.run(f"{at} == document.querySelectorAll('.hit')[1]")
    name = browser.run(f"{at}.querySelector('a').textContent.trim()")
    browser.press("y")
    browser.until("document.querySelectorAll('.hit')[1].querySelector('.yes').getAttribute('aria-pressed') == 'true'")
    browser.press("/")
    assert browser.run("document.activeElement.id") == "q"
    browser.press("Escape")
    assert browser.run("document.activeElement.id + document.querySelector('#q').value") == "notice tenant"
    browser.press("j")
    browser.press("j")
    browser.press("Enter")
    browser.until("document.querySelectorAll('.piece.own').length == 1")
    assert name in browser.run("document.querySelector('h1').textContent")


def test_nothing_is_fetched_elsewhere_or_runs_that_is_not_the_page_s_own(browser: Browser, address: str) -> None:
    for page in PAGES:
        browser.open(address + page)
        assert browser.run("document.querySelectorAll('script:not([src^=\"/static/\"]), style, [style]').length") == 0
        assert browser.run("document.querySelectorAll('main img, iframe, object').length") == 0
    assert {url.split("/")[2] for url in browser.requested()} == {address.removeprefix("http://")}
    assert browser.complaints() == []


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_nothing_sticks_out_at_the_side(
    browser: Browser, address: str, tmp_path: Path, width: int, height: int
) -> None:
    for number, page in enumerate(PAGES):
        for language in ("en", "zh"):
            browser.open(f"{address}{page}{'&' if '?' in page else '?'}lang={language}", width, height)
            browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert browser.run("document.documentElement.scrollWidth") <= width, (page, browser.run(STICKS_OUT))
            assert browser.run(STICKS_OUT) == []
            browser.screenshot(tmp_path / f"{number}-{language}-{width}.png")
    browser.open(address + "/?lang=en")


def test_dark_where_the_reader_wants_it_dark(browser: Browser, address: str) -> None:
    browser.open(address + "/compare?q=lease")
    light = colour(browser)
    wanted: list[dict[str, Any]] = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.send("Emulation.setEmulatedMedia", features=wanted)
    assert light > 700 > 100 > colour(browser)
    browser.send("Emulation.setEmulatedMedia", features=[])


def test_the_comparison_joins_the_places_of_a_passage(browser: Browser, address: str) -> None:
    browser.open(address + "/compare?q=lease+tenant", 1280, 1200)
    found = browser.run("""[...document.querySelectorAll(".lines :is(.up, .down, .same)")].map(line => {
      const box = line.getBoundingClientRect(), rows = [...document.querySelectorAll(".versus li")].filter(
        row => row.dataset.id == line.dataset.id).map(row => row.getBoundingClientRect());
      const middles = rows.map(row => (row.top + row.bottom) / 2);
      return Math.abs(Math.min(...middles) - box.top) + Math.abs(Math.max(...middles) - box.bottom);
    })""")
    assert all(distance < 12 for distance in found), found
    assert browser.run("document.querySelectorAll('.lines path').length") >= 10
    assert browser.run("document.querySelectorAll('.right .move').length") == 10


def test_works_without_script(browser: Browser, address: str) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(address + "/")
        browser.run("document.querySelector('#q').value = 'notice tenant'; document.querySelector('.go').click()")
        browser.until("document.querySelectorAll('.hit').length == 10")
        browser.run("document.querySelectorAll('.verdict .no')[3].click()")
        browser.until("document.querySelectorAll('.verdict .no')[3]?.getAttribute('aria-pressed') == 'true'")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_a_refusal_and_a_server_that_is_gone_are_said(browser: Browser, address: str) -> None:
    browser.open(address + "/?q=notice")
    browser.until("window.htmx")
    browser.run("document.querySelector('#find').setAttribute('hx-get', '/v1/nothing'); htmx.process(document.body)")
    browser.run("htmx.ajax('GET', '/v1/nothing', {target: '#results'})")
    assert "404" in browser.until("document.querySelector('#trouble').textContent")
    assert browser.run("document.querySelectorAll('.hit').length") == 10, "the results stay"
    browser.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    browser.run("htmx.ajax('GET', '/?q=x', {target: '#results'})")
    browser.until("document.querySelector('#trouble').textContent.includes('cannot be reached')")
    browser.send(
        "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Iterator[tuple[str, Teller]]:
    run = write_page_run(tmp_path_factory.mktemp("asked") / "run", tiny_model)
    teller = Teller()
    llm = {"base_url": f"http://127.0.0.1:{teller.server.server_port}/v1", "model": "m"}
    with serving(run, name="tiny", labels=True, llm=llm, stall_seconds=60) as (found, service):
        service.library.volume = replace(service.volume, threshold=None)
        yield found, teller
    teller.server.shutdown()
    teller.server.server_close()


ANSWER = ("Notice must ", "be given <img src=x onerror=alert()> [1]. ", "It takes 777 days [1].")


def test_an_answer_is_shown_as_it_is_written_and_checked_when_it_is_whole(
    browser: Browser, asked: tuple[str, Teller], tmp_path: Path
) -> None:
    address, teller = asked
    go_on, text = tmp_path / "go", "document.querySelector('.answer .said')?.textContent"
    teller.script = [ANSWER[0], go_on, *ANSWER[1:]]
    browser.open(address + "/ask")
    browser.until("document.activeElement.id == 'q' && window.htmx")
    browser.type("when must notice 7 be given")
    browser.press("Enter")
    browser.until(f"{text} == 'Notice must '")
    browser.until("document.querySelectorAll('.hits .hit').length == 6")  # what it is written from is there to read
    assert not browser.run("document.querySelector('.answer .note').hidden")
    assert browser.run("document.querySelector('.answer').getAttribute('aria-busy')") == "true"
    browser.screenshot(tmp_path / "while.png")
    go_on.touch()
    browser.until("document.querySelectorAll('.answer a.cite').length == 2")
    assert browser.run(text).startswith("".join(ANSWER[:2]))
    assert "777" in browser.run("document.querySelector('.answer .unsupported').textContent")
    assert browser.run("document.querySelectorAll('.answer img').length") == 0
    assert "777" in browser.run("document.querySelector('#status').textContent")
    browser.screenshot(tmp_path / "whole.png")
    # A judgement on a passage that came with the stream is sent by htmx like any other.
    browser.run("document.querySelectorAll('.verdict .no')[0].click()")
    browser.until("document.querySelectorAll('.verdict .no')[0]?.getAttribute('aria-pressed') == 'true'")
    assert browser.run("location.pathname") == "/ask"
    assert browser.complaints() == []


def test_an_answer_that_breaks_off_is_said_and_a_new_question_ends_the_old_one(
    browser: Browser, asked: tuple[str, Teller], tmp_path: Path
) -> None:
    address, teller = asked
    teller.script = ["Notice ", None]
    browser.open(address + "/ask?q=when+must+notice+7+be+given")  # an address that was sent to somebody
    browser.until("document.querySelector('.answer .note')?.textContent.includes('broke off')")
    assert browser.run("document.querySelectorAll('.answer .said').length") == 0, "half an answer is none"
    assert browser.run("document.querySelectorAll('.hits .hit').length") == 6
    teller.script = ["The first ", tmp_path / "never", "answer [1]."]
    browser.open(address + "/ask?q=first")
    browser.until("document.querySelector('.answer .said')?.textContent == 'The first '")
    teller.script = ["Notice must be given [1]."]
    browser.run("document.querySelector('#q').value = 'when must notice 8 be given'")
    browser.run("document.querySelector('.go').click()")
    browser.until("document.querySelector('.answer .said a.cite') != null")
    assert browser.run("document.querySelector('.answer .said').textContent") == "Notice must be given [1]."
    assert len([url for url in browser.requested() if "/ask/answer?q=when+must+notice+8" in url]) == 1


def test_without_script_the_answer_comes_whole(browser: Browser, asked: tuple[str, Teller]) -> None:
    address, teller = asked
    teller.script = list(ANSWER)
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(address + "/ask?q=when+must+notice+7+be+given")
        browser.until("document.querySelectorAll('.answer a.cite').length == 2")
        assert browser.run("document.querySelectorAll('.hits .hit').length") == 6
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
