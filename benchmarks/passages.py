"""Check passages against labelled evidence: are the numbers of an answer in the passages of the page it stands on?

    python benchmarks/passages.py --data DIR [--work FOLDER]    DIR holds pdfs/*.pdf and questions.jsonl (FinanceBench)

Reads the PDFs, cuts passages with the default settings, and prints the share of numbers found, and each page that lacks
more than a twentieth of its numbers.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from fieldtune.beir import read_corpus
from fieldtune.config import make_config
from fieldtune.corpus import build_corpus
from fieldtune.documents import load_documents, read_documents
from fieldtune.models import token_counter

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def numbers(text: str) -> Counter[str]:
    """The numbers of a text, as written but for thousands separators."""
    return Counter(match.replace(",", "") for match in NUMBER.findall(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin:all-MiniLM-L6-v2", help="whose tokens are counted")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "fieldtune-passages")
    given = parser.parse_args()
    config = make_config({"documents": {"paths": [str(given.data / "pdfs")]}})
    read = read_documents(config.documents, given.work / "documents.jsonl", given.work / "cache")
    documents = load_documents(given.work / "documents.jsonl")
    made = build_corpus(config.corpus, documents, token_counter(given.model), given.work)
    print(f"documents: {dict(read.counts)}\npassages: {dict(made.counts)}")
    pages: defaultdict[tuple[str, int | None], Counter[str]] = defaultdict(Counter)
    for passage in read_corpus(given.work / "corpus.jsonl").values():
        pages[passage.source, passage.page] += numbers(passage.text)
    wanted = found = 0
    for line in (given.data / "questions.jsonl").read_text("utf-8").splitlines():
        for evidence in json.loads(line)["evidence"]:
            source, page = f"{evidence['doc_name']}.pdf", evidence["page_index_from_0"] + 1
            if not (given.data / "pdfs" / source).exists():
                continue
            need = numbers(evidence["evidence_text"])
            have = need & pages[source, page]
            wanted, found = wanted + need.total(), found + have.total()
            if have.total() < 0.95 * need.total():
                print(f"{source} page {page}: {have.total()} of {need.total()}, without {list(need - have)[:8]}")
    print(f"numbers of the evidence in passages that begin on its page: {found} of {wanted} ({found / wanted:.2%})")


if __name__ == "__main__":
    main()
