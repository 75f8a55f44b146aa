"""The report as a browser shows it: nothing runs, nothing is fetched, nothing sticks out at the side."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fieldtune.beir import RetrievalData
from fieldtune.evaluation import Evaluation, Origin, Proof, System, write_report
from fieldtune.types import Passage, Result

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
         "--host-resolver-rules=MAP * ~NOTFOUND")  # fmt: skip
WIDTHS = (390, 1280)
# The page stands in frames of the wanted widths (a window has a least width of its own), looked at from outside.
HARNESS = """<!doctype html><body style="margin:0"><pre id="found"></pre>{frames}
<script>
function look(frame) {{
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const out = [...page.querySelectorAll("body *")].filter(one =>
    !one.closest(".scroll, figure.wide, nav ul, pre, svg, .hidden, .skip") &&
    one.getBoundingClientRect().right > root.clientWidth + 0.5);
  const style = frame.contentWindow.getComputedStyle(page.body);
  const stops = [...page.querySelectorAll("a[href], summary, [tabindex='0']")];
  return {{
    width: root.clientWidth, needed: root.scrollWidth, height: root.scrollHeight,
    scripts: page.scripts.length, images: page.images.length, frames: page.querySelectorAll("iframe, object").length,
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map(one => one.name),
    out: out.map(one => one.tagName + "." + one.className),
    styled: style.marginTop === "0px", ground: style.backgroundColor,
    focusable: stops.length, first: stops[0].className,
    verdict: page.querySelector(".outcome").getBoundingClientRect().bottom,
  }};
}}
onload = () => {{
  const found = [...document.querySelectorAll("iframe")].map(look);
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script>"""


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser here: looked for {', '.join(NAMES)}")
    return found


@pytest.fixture(scope="session")
def page(
    tmp_path_factory: pytest.TempPathFactory,
    evaluation: Evaluation,
    collection: RetrievalData,
    systems: list[System],
    proof: Proof,
) -> str:
    """With words that no line can be broken at, and a passage in Chinese."""
    long = Passage("p00", "甲" * 120, "x" * 900 + " covenant " + "法" * 500, "deed 0", source="y" * 200 + ".pdf")
    data = replace(collection, passages=collection.passages | {"p00": long})
    stages = [Result("documents", {"documents": 12}, {"z" * 150: 3}, ("w" * 300,))]
    origin = Origin("Deeds", stages, commands=("fieldtune evaluate --data " + "v" * 300,), settings={"out": "u" * 300})
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(path, evaluation, data, systems, proof, replace(origin, examples=36))
    return path.read_text("utf-8")


def seen(browser: str, page: str, folder: Path, *flags: str) -> list[dict[str, Any]]:
    """What a browser finds at each of the widths."""
    text = html.escape(page)
    frames = "".join(
        f'<iframe width="{width}" height="800" style="border:0" srcdoc="{text}"></iframe>' for width in WIDTHS
    )
    harness = folder / "harness.html"
    harness.write_text(HARNESS.format(frames=frames), "utf-8")
    command = [browser, *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000",
               "--dump-dom", harness.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    found = re.search(r'<pre id="found">(\[.*?\])</pre>', dom)
    assert found, dom[:2_000]
    record: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return record


def brightness(found: dict[str, Any]) -> int:
    """Of the page's ground, 0 to 765."""
    return sum(map(int, re.findall(r"\d+", found["ground"])[:3]))


def test_fits_its_window_runs_nothing_and_fetches_nothing(browser: str, page: str, tmp_path: Path) -> None:
    for width, found in zip(WIDTHS, seen(browser, page, tmp_path), strict=True):
        assert found["width"] == width
        assert found["out"] == []
        assert found["needed"] <= width
        assert (found["scripts"], found["images"], found["frames"], found["fetched"]) == (0, 0, 0, [])
        assert found["styled"] and found["height"] > 3_000
        assert found["verdict"] < 400  # on the first screen, whatever its size
        assert found["focusable"] > 20 and found["first"] == "skip"
        assert brightness(found) > 700


def test_is_dark_where_the_reader_wants_it_dark(browser: str, page: str, tmp_path: Path) -> None:
    found = seen(browser, page, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert all(brightness(one) < 100 for one in found)
