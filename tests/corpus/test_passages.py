from __future__ import annotations

import itertools
import re
from pathlib import Path

from corpus_cases import build, count_characters, count_tokens, doc, h, p, texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldtune.config import Corpus
from fieldtune.corpus import cleaned_text
from fieldtune.corpus.passages import Cutter
from fieldtune.types import Block, Document

ARTICLE = "第五十条之一 当事人应当遵守约定。\n" + "\n".join(
    f"（{n}）{'当事人可以解除合同，但是应当通知对方' * 3}；" for n in "一二三四五六"
)


def statute() -> Document:
    return doc(
        h("某某法", 1),
        h("目录", 2),
        p("第一章 总则\n第二章 合同"),
        h("第一章 总则", 2),
        p("第一条 为了保护权益，制定本法。"),
        p("第二条　本法适用于下列情形：\n（一）买卖；\n（二）租赁。"),
        h("第二章 合同", 2),
        h("第一节 一般规定", 3),
        p(ARTICLE),
        p("第五十条规定的情形除外。"),
        p("第五十二条 依照前款。"),
        title="某某法",
    )


def test_statute_articles_are_units_with_their_chapters(tmp_path: Path) -> None:
    result, found, _ = build(tmp_path, statute(), max_tokens=120, min_tokens=16)
    titles = [row["title"] for row in found]
    assert titles[:2] == ["某某法 第一条（第一章 总则）", "某某法 第二条（第一章 总则）"]
    assert found[0]["text"] == "第一条 为了保护权益，制定本法。"
    assert titles[-1] == "某某法 第五十二条（第二章 合同 > 第一节 一般规定）"
    long = [row for row in found if "第五十条之一" in row["title"]]
    assert len(long) > 1
    assert all(row["text"][0] in "第（" for row in long[:-1])  # cut at items, not within them
    assert "第五十条规定的情形除外" in long[-1]["text"]  # a reference opens no article
    assert result.counts["articles"] == 4
    assert result.dropped["headings of a table of contents"] == 3


def test_contract_clauses_are_units_and_sub_clauses_stay_with_them(tmp_path: Path) -> None:
    contract = doc(
        p("1. Definitions. The following apply:"),
        p('(a) "Fee" means the price.'),
        p("2. Services"),
        p("2.1 Scope. Provider performs the Services within 12.5 days."),
        p("2.2 Acceptance. Customer may reject."),
        p("2.2.1 Notice must be written."),
        p("3. Term. Two years."),
        p("3.1 Renewal. One year."),
        p("Section 4 of the Act applies."),
        title="Agreement",
    )
    _, found, _ = build(tmp_path, contract)
    assert [(row["title"], row["text"]) for row in found] == [
        ("Agreement > 1 Definitions", '1. Definitions. The following apply:\n\n(a) "Fee" means the price.'),
        ("Agreement > 2 Services > 2.1 Scope", "2.1 Scope. Provider performs the Services within 12.5 days."),
        (
            "Agreement > 2 Services > 2.2 Acceptance",
            "2.2 Acceptance. Customer may reject.\n\n2.2.1 Notice must be written.",
        ),
        ("Agreement > 3 Term", "3. Term. Two years."),
        ("Agreement > 3 Term > 3.1 Renewal", "3.1 Renewal. One year.\n\nSection 4 of the Act applies."),
    ]


def test_a_plain_numbered_list_is_no_contract(tmp_path: Path) -> None:
    steps = doc(p("Before you eat:"), p("1. Wash hands."), p("2. Dry hands."), p("3. Sit down."), p("4. Eat slowly."))
    _, found, _ = build(tmp_path, steps)
    assert len(found) == 1


def test_no_passage_crosses_a_top_heading_and_titles_carry_the_path(tmp_path: Path) -> None:
    filing = doc(
        h("Item 7. Discussion", 1),
        p("Overview text."),
        h("Liquidity", 2),
        p("Cash rose."),
        h("A detail", 4),
        p("More on cash."),
        h("Item 8. Reserved", 1),
        title="ACME 2022 10-K",
    )
    _, found, _ = build(tmp_path, filing, min_tokens=16)
    assert [(row["title"], row["text"]) for row in found] == [
        ("ACME 2022 10-K > Item 7. Discussion", "Overview text."),
        ("ACME 2022 10-K > Item 7. Discussion > Liquidity", "Cash rose.\n\nA detail\n\nMore on cash."),
        ("ACME 2022 10-K", "Item 8. Reserved"),  # nothing stands under it, so it is text
    ]


def test_sentences_overlap_within_the_limit(tmp_path: Path) -> None:
    story = " ".join(f"Sentence number {n} tells a little story here." for n in range(60))
    result, found, _ = build(tmp_path, doc(p(story)), max_tokens=64, overlap_tokens=12)
    assert result.counts["tokens max"] <= 64
    for before, after in itertools.pairwise(found):
        assert after["metadata"]["start"] < before["metadata"]["end"]
        assert after["text"].startswith("Sentence number")
    _, apart, _ = build(tmp_path, doc(p(story)), max_tokens=64, overlap_tokens=0)
    assert all(a["metadata"]["end"] < b["metadata"]["start"] for a, b in itertools.pairwise(apart))


def test_table_whole_where_it_fits_else_by_rows_with_its_header(tmp_path: Path) -> None:
    small = "| | 2022 |\n|---|---|\n| Cash | 5,363 |"
    big = "| | 2022 | 2021 |\n|---|---|---|\n" + "\n".join(f"| Row {n} | {n * 37} | {n * 91} |" for n in range(40))
    report = doc(p("Cash is shown below:"), p(small, "table", 3), h("More", 1), p(big, "table", 4), title="T")
    result, found, _ = build(tmp_path, report, max_tokens=100)
    assert found[0]["text"] == "Cash is shown below:\n\n" + small
    pieces = found[1:]
    assert len(pieces) > 2
    cleaned = cleaned_text(report)
    seen = []
    for piece in pieces:
        assert piece["text"].startswith("| | 2022 | 2021 |\n|---|---|---|\n| Row")
        assert piece["text"].endswith(cleaned[piece["metadata"]["start"] : piece["metadata"]["end"]])
        assert piece["metadata"]["page"] == 4
        seen += re.findall(r"Row (\d+)", piece["text"])
    assert seen == [str(n) for n in range(40)]
    assert "repeated_header" not in pieces[0]["metadata"]
    assert all(
        piece["metadata"]["repeated_header"] == len("| | 2022 | 2021 |\n|---|---|---|\n") for piece in pieces[1:]
    )
    assert result.counts["tables"] == 2


def test_a_list_stays_with_its_introduction(tmp_path: Path) -> None:
    filler = " ".join(f"Filler sentence {n} says nothing much." for n in range(7))
    items = [p(f"item {n} of the list of things", "list_item") for n in range(4)]
    _, found, _ = build(tmp_path, doc(p(filler), p("You need these:"), *items), max_tokens=64, overlap_tokens=0)
    assert texts(found)[-1].startswith("You need these:")
    assert texts(found)[-1].count("item") == 4


def test_text_without_punctuation_is_cut() -> None:
    for endless in ("word " * 3_000, "汉" * 3_000, "x" * 3_000):
        cutter = Cutter(Corpus(max_tokens=64), count_characters if endless[0] == "x" else count_tokens)
        [(_, cut)] = list(cutter.cut([doc(p(endless.strip()))]))
        assert "".join(passage.text for passage, _ in cut).replace(" ", "") == endless.replace(" ", "")
        assert max(size for _, size in cut) <= 64
        assert cutter.counts["cut mid-sentence"] == len(cut) - 1 > 10
        assert all(set(passage.text.split()) == {"word"} for passage, _ in cut) or endless[0] != "w"


def test_long_titles_leave_room_for_text(tmp_path: Path) -> None:
    deep = doc(
        h("A long heading " * 12, 1), h("Another long heading " * 12, 2), p("The text itself."), title="T " * 200
    )
    result, found, _ = build(tmp_path, deep, max_tokens=64)
    assert texts(found) == ["The text itself."]
    assert result.counts["tokens max"] <= 64
    assert result.counts["titles shortened"] == 1


def test_ids_do_not_depend_on_what_stands_elsewhere(tmp_path: Path) -> None:
    blocks = [h("One", 1), p("Same text."), h("Two", 1), p("Other text."), h("Three", 1), p("Same text.")]
    _, before, _ = build(tmp_path, doc(*blocks))
    _, after, _ = build(tmp_path, doc(h("Zero", 1), p("New at the top."), *blocks))
    assert {row["_id"] for row in before} < {row["_id"] for row in after}
    assert len({row["_id"] for row in before}) == 3
    again = doc(h("One", 1), p("Long enough to stay apart.", "table"), p("Same", "table"), title="")
    _, one, _ = build(tmp_path, again)
    _, two, _ = build(tmp_path, again)
    assert one == two


def test_equal_texts_in_one_section_have_ids_of_their_own() -> None:
    cutter = Cutter(Corpus(), count_tokens)
    twice = doc(h("One", 1), p("Same text."), h("One", 1), p("Same text."))
    [(_, cut)] = list(cutter.cut([twice]))
    assert len({passage.id for passage, _ in cut}) == len(cut) == 2


words = st.sampled_from(
    ["$5,363", "；", "x" * 90, "第一章 总则", "(a)", "目录", "e\u0301", "\u3000", "Dr.", "—", "\U0001f600", "|"]
) | st.sampled_from(
    ["word", "Section 4.2", "第五条", "（一）", "。", ".", "Article 5 The", ":", "\n", "1.", "2.1 Term.", "汉字汉字"]
)
paragraph = st.lists(words, min_size=1, max_size=40).map(" ".join) | st.text(max_size=200)
table = st.lists(st.lists(words.filter(lambda w: w not in "\n|"), min_size=1, max_size=6), min_size=1, max_size=20).map(
    lambda cells: "\n".join(["| a | b |", "|---|---|", *("| " + " | ".join(row) + " |" for row in cells)])
)
block = st.one_of(
    st.builds(
        lambda text, level: Block("heading", text, level),
        st.text("abc第章1 ", min_size=1, max_size=20),
        st.integers(1, 6),
    ),
    st.builds(lambda text, kind: Block(kind, text), paragraph, st.sampled_from(["paragraph", "list_item", "footnote"])),
    st.builds(lambda text: Block("table", text, None, 3), table),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(block, max_size=12), st.integers(32, 90), st.integers(0, 30), st.integers(0, 30), st.integers(0, 6))
def test_offsets_are_exact_and_nothing_is_lost(
    blocks: list[Block], max_tokens: int, min_tokens: int, overlap: int, levels: int
) -> None:
    document = doc(*blocks)
    cleaned = cleaned_text(document)
    config = Corpus(max_tokens=max_tokens, min_tokens=min_tokens, overlap_tokens=overlap, heading_levels=levels)
    cutter = Cutter(config, count_tokens)
    [(_, cut)] = list(cutter.cut([document]))
    covered = bytearray(len(cleaned))
    for passage, size in cut:
        assert passage.start is not None
        assert passage.end is not None
        piece = cleaned[passage.start : passage.end]
        repeated = passage.metadata.get("repeated_header", 0)
        assert passage.text[repeated:] == piece
        assert piece == piece.strip()
        assert piece
        assert size == count_tokens([passage.content])[0] <= max_tokens
        covered[passage.start : passage.end] = b"\1" * len(piece)
    begin = 0
    for one in blocks:
        for line in re.finditer(r"[^\n]+", one.text):
            missing = [c for at, c in enumerate(line[0], begin + line.start()) if not covered[at] and not c.isspace()]
            is_caption = re.match(r"\s*(第|\d|Article|Section|目录)", line[0]) is not None
            # Headings live on in titles, and so do chapter lines and captions in running text that head something.
            assert not missing or one.kind == "heading" or (one.kind != "table" and is_caption), line[0]
        begin += len(one.text) + 2
    assert len({passage.id for passage, _ in cut}) == len(cut)


def test_a_sentence_parted_by_a_page_break_stays_whole(tmp_path: Path) -> None:
    filler = " ".join(f"Filler sentence {n} says nothing much." for n in range(8))
    parted = doc(p(filler), p("The option is not intended to"), p("replace any pension right of the participant."))
    _, found, _ = build(tmp_path, parted, max_tokens=64, overlap_tokens=0, min_tokens=0)
    assert texts(found)[-1] == "The option is not intended to\n\nreplace any pension right of the participant."
