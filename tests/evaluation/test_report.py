from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.config import Evaluation as Settings
from fieldtune.evaluation import Evaluation, Origin, Proof, System, audit, evaluate, prove, write_report
from fieldtune.evaluation.ability import Change, General
from fieldtune.evaluation.results import About
from fieldtune.types import Passage, Query, Result
from fieldtune.workspace import Cost

CHANGES = (
    Change("encyclopaedia", "nDCG@10", 400, 0.81, 0.80, -0.01, (-0.02, 0.001), 0.012, "unclear"),
    Change("sentence pairs", "Spearman", 900, 0.82, 0.815, -0.005, (-0.009, 0.001), 0.012, "kept"),
)
GENERAL = General(0.01, 0.99, CHANGES, replace(CHANGES[1], name="all probes together"), ("One probe was left out.",))
ORIGIN = Origin(
    title="Deeds & <titles>",
    stages=(
        Result("documents", {"documents": 12, "pages": 1904}, {"encrypted": 1}, ("<b>One</b> file needs a password.",)),
        Result("corpus", {"passages": 48}),
    ),
    costs=(Cost("documents", 4.25, 0.61, True), Cost("training", 3_900.0, 2.5, True), Cost("index", 60.0, 2.5)),
    training_log=[
        {"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 0, "dev_ndcg@10": 0.4},
        {"step": 2, "dev_ndcg@10": 0.5},
    ],
    commands=("fieldtune run deeds.toml",),
    settings=Config(out='"><script>', seed=7).model_dump(by_alias=True),
    packages={"python": "3"},
    machine="a machine with 2 processors",
    date=datetime.date(2026, 1, 2),
    examples=36,
    notes=("Two grades were added by hand.",),
)  # fmt: skip
VOID = {"meta", "br", "line", "circle", "rect", "use", "path"}


class Page(HTMLParser):
    """The tags, the visible text, and everything a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.outline: list[str] = []
        self.named: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "xlink:href", "poster"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name in ("aria-labelledby", "aria-describedby"):
                self.named.append(value or "")
            if name.startswith("on"):
                self.references.append(f"{name} handler")
        known = dict(attrs)
        if tag in ("header", "nav", "main", "footer", "section") or "role" in known or "aria-label" in known:
            about = [
                f"{name}={known[name]}" for name in ("role", "id", "aria-label", "aria-labelledby") if name in known
            ]
            self.outline.append(" ".join([tag, *about]))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style" and data.strip():
            self.text.append(" ".join(data.split()))
            if self.open and self.open[-1] in ("h1", "h2", "h3", "caption"):
                self.outline.append(f"{self.open[-1]}: {self.text[-1]}")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass


def parsed(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


@pytest.fixture(scope="session")
def html(
    tmp_path_factory: pytest.TempPathFactory,
    evaluation: Evaluation,
    collection: RetrievalData,
    systems: list[System],
    proof: Proof,
) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, evaluation, collection, systems, replace(proof, general=GENERAL), ORIGIN)
    return path.read_text("utf-8")


def test_opens_offline_and_runs_nothing(html: str) -> None:
    page = parsed(html)
    assert all(reference.startswith("#") for reference in page.references)
    assert {"script", "link", "iframe", "img", "object", "embed"}.isdisjoint(page.tags)
    rest = re.sub(r"&lt;script src=&#34;https://evil.*?&lt;/script&gt;", "", html)
    assert "http" not in rest.replace('http-equiv="Content', "").replace("<mark>https</mark>", "")
    assert not re.search(r"url\((?!#)|@import", html)


def test_untrusted_text_is_shown_as_text(html: str) -> None:
    assert "&lt;script src=&#34;https://evil.example/x.js&#34;&gt;" in html
    assert "Deeds &amp; &lt;titles&gt;" in html
    assert "&lt;b&gt;One&lt;/b&gt; file needs a password." in html
    assert "out = &#34;\\&#34;&gt;&lt;script&gt;&#34;" in html


def test_internal_references_have_one_target_each(html: str) -> None:
    page = parsed(html)
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} | set(page.named) <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(page.ids)


def test_a_manager_reads_verdict_reason_and_one_sentence_before_the_first_table(html: str, proof: Proof) -> None:
    first = html[html.index("<body>") : html.index("<table")]
    text = parsed(first).text
    assert [text[n] for n in (-5, -4)] == ["SHIP", ":"] or "SHIP" in text
    assert proof.verdict.headline in text
    assert " ".join(text).count(proof.verdict.sentences[0].replace("p <", "p\u00a0<")[:60]) == 1
    assert proof.verdict.sentences[1][:40] not in first


def test_says_what_it_should(html: str, evaluation: Evaluation) -> None:
    text = "\n".join(parsed(html).text)
    assert "The tuned model finds the right passage more often than the base model." in text
    for expected in ("nDCG@10", "Recall@6", "Queries that gained most", "Where the data went", "1,904", "encrypted",
                     "Training", "fieldtune run deeds.toml", "seed = 7", "deeds.pdf, page 1", "2026-01-02",
                     "take the intervals as rough", "1 h 05 min", "at most 2.50 GB", "4.2 s", "all probes together",
                     "One probe was left out.", "judged@10", "A limit of", "By query style", "Two grades were added",
                     "digest of corpus", "a machine with 2 processors"):  # fmt: skip
        assert expected in text
    for system in evaluation.systems:
        assert f"{system.mean['ndcg@10']:.3f}" in text


def test_every_figure_and_table_can_be_heard(html: str) -> None:
    page = parsed(html)
    for tag in re.findall(r"<svg[^>]*>", html):
        assert 'aria-hidden="true"' in tag or re.search(r'role="img"[^>]*aria-label="[^"]+', tag), tag
    assert page.tags.count("table") == page.tags.count("caption")
    assert all("scope=" in tag for tag in re.findall(r"<th[ >][^>]*>?", html))
    assert page.tags.count("h1") == 1 and page.tags.count("main") == 1
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_colours_follow_the_page(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    figures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--last)" in figures
    assert not re.search(r"#0[1-9]0[1-9]0[1-9]", figures)


def test_text_stands_out_from_its_ground(html: str) -> None:
    """WCAG 2.2 AA: a contrast of 4.5 for every colour that text has, light and dark."""

    def light(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    schemes = re.findall(r":root \{(.*?)\}", html, re.DOTALL)[:2]
    assert len(schemes) == 2
    for scheme in schemes:
        colours = {name: light(value) for name, value in re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme)}
        for ground in ("page", "card"):
            for text in ("ink", "quiet", "last", "lexical", "gain", "loss", "good", "care", "bad"):
                dark, bright = sorted((colours[ground], colours[text]))
                assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ground, text)
        dark, bright = sorted((colours["mark"], colours["ink"]))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_same_input_same_bytes(
    tmp_path: Path, evaluation: Evaluation, collection: RetrievalData, systems: list[System], proof: Proof
) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, evaluation, collection, systems, proof, ORIGIN)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_text_stays_as_it_was(html: str, golden: Callable[[str, str], None]) -> None:
    golden("report.txt", "\n".join(parsed(html).text) + "\n")


def test_structure_stays_as_it_was(html: str, golden: Callable[[str, str], None]) -> None:
    golden("report_outline.txt", "\n".join(parsed(html).outline) + "\n")


def test_one_system_and_nothing_else(tmp_path: Path, collection: RetrievalData, systems: list[System]) -> None:
    alone = evaluate(collection, "test", systems[2:], Settings(), 1)
    proof = prove(collection, alone, systems[2:], audit(collection, "test", Settings()), Settings())
    write_report(tmp_path / "report.html", alone, collection, systems[2:], proof)
    text = "\n".join(parsed((tmp_path / "report.html").read_text("utf-8")).text)
    assert "There is nothing to compare it with." in text
    assert "NOT COMPARED" in text
    for absent in ("Queries that gained most", "For whom it paid", "What it cost elsewhere", "What it took"):
        assert absent not in text


def test_twenty_systems_are_one_row_each(
    tmp_path: Path, collection: RetrievalData, systems: list[System], proof: Proof
) -> None:
    base, tuned, lexical = systems
    about = [About("dimension", "tuned", size, "float32", "", 4 * size, ("tuned",)) for size in (8, 4, 2)] + [
        About("precision", "tuned", 16, "binary", "", 2, ("tuned",))
    ]
    derived = [
        System(f"tuned variant {n}", replace(tuned.run, kind="derived"), about[n % len(about)]) for n in range(14)
    ]
    sized = replace(tuned, about=About("plain", "tuned", 16, "float32", "", 64))
    others = [System(f"someone/some-model-with-a-long-name-{n}", base.run) for n in range(4)]
    many = [base, *others, sized, lexical, *derived]
    found = evaluate(collection, "test", many, Settings(bootstrap=100, permutations=100), 1)
    write_report(
        tmp_path / "report.html", found, collection, many, prove(collection, found, many, proof.leakage, Settings())
    )
    html = (tmp_path / "report.html").read_text("utf-8")
    table = html[html.index('<section id="systems"') : html.index("What smaller vectors cost")]
    assert table.count('class="bar ') == len(many) == 21
    assert "dimensions, float32" in html and "bytes per vector" in html


def test_words_of_the_query_are_marked_in_english_and_chinese(tmp_path: Path) -> None:
    texts = {"en": ("May a tenant <b>pay</b> late?", "A tenant who pays late owes interest."),
             "zh": ("试用期最长多久？", "劳动合同期限不满三年的，试用期不得超过二个月。")}  # fmt: skip
    passages = {key: Passage(key, f"Title {key}", text) for key, (_, text) in texts.items()}
    queries = {key: Query(key, query) for key, (query, _) in texts.items()}
    data = RetrievalData(passages, queries, {"test": {key: {key: 1} for key in texts}})
    from fieldtune.evaluation.rankings import Ranking

    names = tuple(texts)
    runs = [
        System("base", Ranking.of(names, [names[::-1], names], [[2, 1]] * 2, names)),
        System("tuned", Ranking.of(names, [names, names[::-1]], [[2, 1]] * 2, names)),
    ]
    found = evaluate(data, "test", runs, Settings(bootstrap=100), 1)
    proof = prove(data, found, runs, audit(data, "test", Settings()), Settings())
    write_report(tmp_path / "report.html", found, data, runs, proof)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "A <mark>tenant</mark> who <mark>pays</mark> <mark>late</mark> owes interest." in html
    assert "<mark>试用期</mark>不得超过" in html
    assert 'lang="zh">试用期最长多久？' in html
    assert "&lt;b&gt;pay&lt;/b&gt;" in html and "<b>pay</b>" not in html
    assert html.count("✓ right passage") == 4  # each query, in both columns


def test_the_shares_are_drawn_where_one_was_chosen(
    tmp_path: Path, evaluation: Evaluation, collection: RetrievalData, systems: list[System], proof: Proof
) -> None:
    log: list[dict[str, object]] = [{"step": 1, "loss": 2.0}, {"pretrain_step": 10, "pretrain_loss": 3.0}]
    curve = [{"base_share": n / 10, "dev": 0.6 - n / 100, "general": n / 100 - 0.03, "probes": {}} for n in range(4)]
    for rows, drawn in ((log, False), ([*log, *curve], True), ([*log, curve[0]], False)):
        path = tmp_path / "report.html"
        write_report(path, evaluation, collection, systems, proof, Origin(training_log=rows))
        html = path.read_text("utf-8")
        assert ("by share of the base model" in html) is drawn
        assert ("general ability against the base model" in html) is drawn
        assert ("the share was chosen by" in html) is drawn
    set_by_hand = [row | {"fixed": True, "taken": row is curve[0]} for row in curve]
    write_report(path, evaluation, collection, systems, proof, Origin(training_log=set_by_hand))
    html = path.read_text("utf-8")
    assert "the share was set (training.base_share)" in html and "the share was chosen by" not in html
