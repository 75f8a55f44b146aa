from __future__ import annotations

from fieldtune.documents.lines import Line, Segment, Word, page_lines
from fieldtune.documents.page_blocks import document_look, page_blocks
from fieldtune.documents.running_lines import running_lines
from fieldtune.documents.tables import find_tables, table_rows


def line(top: float, *cells: tuple[str, float], bold: bool = False) -> Line:
    """A line of 10 points whose characters are 5 points wide; a cell is (text, left edge)."""
    return Line(tuple(Segment(text, x, x + 5 * len(text)) for text, x in cells), top, top + 10, 10, bold)


def test_signs_join_their_number_and_ordinals_their_digits() -> None:
    cells = [
        ("Net", 20),
        ("sales", 38),
        ("$", 200),
        ("5,363", 240),
        ("$", 280),
        ("4,869", 320),
        ("(3.2", 400),
        (")%", 422),
    ]
    words = [Word(text, x, x + 4.5 * len(text), 100, 110) for text, x in cells]
    words += [Word("53", 20, 29, 120, 130), Word("rd", 29.2, 34, 119, 126), Word("week", 38, 56, 120, 130)]
    first, second = page_lines(words)
    assert [segment.text for segment in first.segments] == ["Net sales", "$ 5,363", "$ 4,869", "(3.2)%"]
    assert second.text == "53rd week"


def test_a_table_with_labels_of_two_lines_and_a_head_of_two() -> None:
    lines = [
        line(0, ("Years ended December 31,", 300)),
        line(12, ("(Millions)", 20), ("2022", 310), ("2021", 390)),
        line(24, ("Adjustments to reconcile net income to net cash", 20)),
        line(35, ("provided by operations:", 20)),
        line(47, ("Depreciation and", 20)),
        line(58, ("amortization", 20), ("1,488", 310), ("1,544", 390)),
        line(70, ("Pension contributions", 20), ("(370)", 310), ("(967)", 390)),
        line(110, ("This sentence follows the table and is prose that runs over the whole width of the page.", 20)),
    ]
    assert find_tables(lines, 450) == [(0, 7)]
    assert table_rows(lines[:7]) == [
        ["(Millions)", "Years ended December 31, 2022", "2021"],
        ["Adjustments to reconcile net income to net cash provided by operations:", "", ""],
        ["Depreciation and amortization", "1,488", "1,544"],
        ["Pension contributions", "(370)", "(967)"],
    ]


def test_tables_of_words_in_two_columns() -> None:
    pairs = [
        ("Net sales", "$10.95 billion to $11.05 billion"),
        ("Tax rate", "approximately 24%"),
        ("Shares", "about 50 million"),
    ]
    lines = [line(12 * n, (label, 20), (text, 200)) for n, (label, text) in enumerate(pairs)]
    assert find_tables(lines, 400) == [(0, 3)]


def test_page_numbers_and_headers_go_but_rows_and_sentences_stay() -> None:
    def page(number: int) -> list[Line]:
        return [
            line(20, ("ACME Annual Report", 20)),
            line(40, ("2022", 300), ("2021", 400)),
            line(60, (f"Sentence {number * 7} of the text.", 20)),
            line(80 + 9 * number, ("See the notes to the statements.", 20)),
            line(700, (f"F-{number + 30}", 300)),
        ]

    found = running_lines([page(number) for number in range(6)])
    assert found[0] == {4} or found[0] == {0, 4}
    assert all(chosen == {0, 4} for chosen in found[1:])


def test_chinese_page_numbers_go_whatever_their_count() -> None:
    pages = [
        [line(20, ("第一条 本法适用于合同。", 20)), line(700, (text, 200))]
        for text in ("第 1 页 共 9 页", "第 7 页 共 9 页")
    ]
    assert running_lines(pages) == [{1}, {1}]


def test_paragraphs_lists_and_headings_by_space_and_weight() -> None:
    body = "the agent may rely on any notice that it believes to be genuine and"
    lines = [
        line(0, ("Reliance by the Agent", 20), bold=True),
        line(20, (body, 20)),
        line(32, (body, 20)),
        line(44, ("nothing else.", 20)),
        line(62, ("• first of the items that", 30)),
        line(74, ("goes on", 40)),
        line(86, ("• second", 30)),
    ]
    blocks = page_blocks(lines, document_look([lines]), 7, frozenset())
    assert [(block.kind, block.text) for block in blocks] == [
        ("heading", "Reliance by the Agent"),
        ("paragraph", f"{body} {body} nothing else."),
        ("list_item", "first of the items that goes on"),
        ("list_item", "second"),
    ]
    assert {block.page for block in blocks} == {7}
