"""Measure the documents stage on real filings: speed, words lost, numbers found, tables.

    python benchmarks/documents.py --data DIR      DIR holds pdfs/*.pdf and questions.jsonl (FinanceBench's format)

`--show FILE PAGE` prints the blocks of one page instead.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

from fieldtune.documents.parsed import Report
from fieldtune.documents.pdf import read_pdf
from fieldtune.types import Block

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")

AMOUNT = re.compile(r"[\s$()%,.\d\u2013\u2014-]+")


def numbers(text: str) -> Counter[str]:
    """The numbers of a text, as written but for thousands separators."""
    return Counter(match.replace(",", "") for match in NUMBER.findall(text))


def is_table(evidence: str) -> bool:
    """Whether an evidence text was cut from a table: many short lines, most of them numbers."""
    lines = [line for line in evidence.splitlines() if line.strip()]
    digits = sum(1 for line in lines if AMOUNT.fullmatch(line))
    return len(lines) >= 8 and digits >= 0.3 * len(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--show", nargs=2, metavar=("FILE", "PAGE"))
    options = parser.parse_args()
    if options.show:
        path = options.data / "pdfs" / options.show[0]
        for document in read_pdf(path, path.name, Report(), 0.02):
            for block in document.blocks:
                if block.page == int(options.show[1]):
                    print(f"{block.kind}{block.level or ''}: {block.text}\n")
        return
    blocks: dict[str, dict[int, list[Block]]] = {}
    pages = lossy = tables = 0
    seconds = worst = 0.0
    print(f"{'file':46} {'pages':>5} {'s/100':>6} {'blocks':>6} {'heads':>5} {'tables':>6} {'lossy':>5}")
    for path in sorted((options.data / "pdfs").glob("*.pdf")):
        report = Report()
        start = time.perf_counter()
        documents = list(read_pdf(path, path.name, report, 0.02))
        took = time.perf_counter() - start
        found = [block for document in documents for block in document.blocks]
        by_page: dict[int, list[Block]] = defaultdict(list)
        for block in found:
            by_page[block.page or 0].append(block)
        blocks[path.stem] = by_page
        kinds = Counter(block.kind for block in found)
        pages, lossy, tables, seconds = (
            pages + report.pages,
            lossy + len(report.lossy_pages),
            tables + kinds["table"],
            seconds + took,
        )
        rate = 100 * took / max(report.pages, 1)
        worst = max(worst, rate if report.pages >= 20 else 0)
        print(
            f"{path.name[:46]:46} {report.pages:5} {rate:6.2f} {len(found):6} {kinds['heading']:5} {kinds['table']:6} "
            f"{len(report.lossy_pages):5}"
        )
        for page in report.lossy_pages:
            missing = " ".join(page["missing"][:12])
            print(f"    page {page['page']} lost {page['lost']:.1%} of {page['words']} words: {missing}")
    print(
        f"{len(blocks)} files, {pages} pages, {100 * seconds / pages:.2f} s per 100 pages (slowest file {worst:.2f}), "
        f"{tables} tables, {lossy} pages over the allowed word loss"
    )
    evidence = {
        (e["doc_name"], e["page_index_from_0"] + 1, e["evidence_text"])
        for line in (options.data / "questions.jsonl").read_text("utf-8").splitlines()
        for e in json.loads(line)["evidence"]
        if e["doc_name"] in blocks
    }
    wanted = hit = in_tables = whole = as_table = 0
    for name, page, text in sorted(evidence):
        own = blocks[name].get(page, [])
        want, have = numbers(text), numbers("\n".join(block.text for block in own))
        got = (want & have).total()
        wanted, hit = wanted + want.total(), hit + got
        if got < want.total():
            lost = " ".join(list((want - have).elements())[:10])
            print(f"    {name} page {page}: {want.total() - got} of {want.total()} numbers missing: {lost}")
        if is_table(text):
            in_tables += 1
            cells = numbers("\n".join(block.text for block in own if block.kind == "table"))
            amounts = numbers("\n".join(filter(AMOUNT.fullmatch, text.splitlines())))  # not those of titles and prose
            share = (amounts & cells).total() / max(amounts.total(), 1)
            as_table += share >= 0.9
            if share < 0.9:
                print(f"    {name} page {page}: {share:.0%} of the numbers of a table stand in table blocks")
        whole += got == want.total()
    share = hit / max(wanted, 1)
    print(f"{len(evidence)} evidence texts: {hit}/{wanted} numbers on their page ({share:.2%}), {whole} texts complete")
    print(f"{in_tables} evidence tables, {as_table} arrive as table blocks (at least 90% of their numbers in cells)")


if __name__ == "__main__":
    main()
