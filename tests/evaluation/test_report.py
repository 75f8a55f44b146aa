from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.config import Evaluation as Settings
from fieldtune.evaluation import Evaluation, System, evaluate, write_report
from fieldtune.types import Result

FUNNEL = [
    Result("documents", {"documents": 12, "pages": 1904}, {"encrypted": 1}, ("<b>One</b> file needs a password.",)),
    Result("corpus", {"passages": 48}),
]


class Page(HTMLParser):
    """The tags, the visible text, and everything a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "xlink:href", "poster"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.references.append(f"{name} handler")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style" and data.strip():
            self.text.append(" ".join(data.split()))


@pytest.fixture
def html(tmp_path: Path, evaluation: Evaluation, collection: RetrievalData) -> str:
    path = tmp_path / "report.html"
    write_report(
        path,
        evaluation,
        collection,
        FUNNEL,
        Config(out='"><script>').model_dump(),
        title="Deeds & <titles>",
        examples=36,
        training_log=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "dev_ndcg@10": 0.5}],
        reproduce=["fieldtune run deeds.toml"],
        package_versions={"python": "3"},
        date=datetime.date(2026, 1, 2),
    )
    return path.read_text("utf-8")


def parsed(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


def test_opens_offline_and_runs_nothing(html: str) -> None:
    page = parsed(html)
    assert all(reference.startswith("#") for reference in page.references)
    assert {"script", "link", "iframe", "img", "object", "embed"}.isdisjoint(page.tags)
    assert "http" not in re.sub(r"&lt;script src=&#34;https://evil.*?&lt;/script&gt;", "", html).replace(
        'http-equiv="Content', ""
    )
    assert not re.search(r"url\((?!#)|@import", html)


def test_untrusted_text_is_shown_as_text(html: str) -> None:
    assert "&lt;script src=&#34;https://evil.example/x.js&#34;&gt;" in html
    assert "Deeds &amp; &lt;titles&gt;" in html
    assert "&lt;b&gt;One&lt;/b&gt; file needs a password." in html
    assert "&#34;&gt;&lt;script&gt;" in html


def test_internal_references_have_one_target_each(html: str) -> None:
    page = parsed(html)
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(page.ids)


def test_says_what_it_should(html: str, evaluation: Evaluation) -> None:
    text = "\n".join(parsed(html).text)
    assert "The tuned model finds the right passage more often than the base model." in text
    for expected in ("nDCG@10", "Recall@6", "Queries that gained most", "Where the data went", "1,904", "encrypted",
                     "Training", "fieldtune run deeds.toml", "training.epochs", "deeds.pdf, page 1", "First from tuned",
                     "2026-01-02", "take the intervals as rough"):  # fmt: skip
        assert expected in text
    for system in evaluation.systems:
        assert f"{system.mean['ndcg@10']:.3f}" in text
    assert html.count("<svg") == len(evaluation.measures) + 2


def test_colours_follow_the_page(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    figures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--last)" in figures
    assert not re.search(r"#0[1-8]0[1-8]0[1-8]", figures)


def test_same_input_same_bytes(html: str, tmp_path: Path, evaluation: Evaluation, collection: RetrievalData) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, evaluation, collection, FUNNEL, {"a": 1}, package_versions={})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_text_stays_as_it_was(html: str, golden: Callable[[str, str], None]) -> None:
    golden("report.txt", "\n".join(parsed(html).text) + "\n")


def test_one_system_and_nothing_else(tmp_path: Path, collection: RetrievalData, systems: list[System]) -> None:
    alone = evaluate(collection, "test", systems[2:], Settings(), 1)
    write_report(tmp_path / "report.html", alone, collection)
    text = "\n".join(parsed((tmp_path / "report.html").read_text("utf-8")).text)
    assert "There is nothing to compare it with." in text
    assert "Queries that gained most" not in text


def test_the_shares_are_drawn_where_one_was_chosen(
    tmp_path: Path, evaluation: Evaluation, collection: RetrievalData
) -> None:
    log: list[dict[str, object]] = [{"step": 1, "loss": 2.0}, {"pretrain_step": 10, "pretrain_loss": 3.0}]
    curve = [{"base_share": n / 10, "dev": 0.6 - n / 100, "general": n / 100 - 0.03, "probes": {}} for n in range(4)]
    for rows, drawn in ((log, False), ([*log, *curve], True), ([*log, curve[0]], False)):
        path = tmp_path / "report.html"
        write_report(path, evaluation, collection, FUNNEL, {}, training_log=rows)
        html = path.read_text("utf-8")
        assert ("by share of the base model" in html) is drawn
        assert ("change of general ability against the base model" in html) is drawn
