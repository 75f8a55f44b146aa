"""Labels in every form that they come in, and what is said about those that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from fieldtune.beir import load_beir, read_qrels, read_queries, write_corpus
from fieldtune.config import Config, Queries
from fieldtune.errors import InputError
from fieldtune.queries import gather_queries
from fieldtune.queries.columns import is_relevant, parse_row, scale_of
from fieldtune.types import Passage, Result

LEASE = "The tenant pays the rent on the first working day of each month, in advance and without deduction."
REPAIR = "The landlord keeps roof, walls and heating in good repair; small repairs up to 100 euros are the tenant's."
NOTICE = "Either party may end the lease with three months' notice in writing to the end of a quarter."
PASSAGES = {
    key: Passage(key, "Lease", text, "lease") for key, text in (("rent", LEASE), ("repair", REPAIR), ("end", NOTICE))
}


def gather(source: Path, output: Path, passages: dict[str, Passage] = PASSAGES) -> tuple[Result, dict, dict]:
    config = Config(queries=Queries(source=str(source)))
    result = gather_queries(config, passages, output, output / "cache")
    queries = read_queries(output / "queries.jsonl")
    qrels = {
        path.stem: {queries[q].text: row for q, row in read_qrels(path, passages, queries)[0].items()}
        for path in sorted((output / "qrels").glob("*.tsv"))
    }
    assert json.loads((output / "meta.json").read_text())["made_by"] == "labels"
    return result, queries, qrels


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def test_pairs_in_a_table(tmp_path):
    source = tmp_path / "labels.csv"
    source.write_text(
        f'Question,Context\nWhen is the rent due?,"{LEASE}"\nWho mends the roof?,"{REPAIR}"\n'
        f'When is the rent due?,"{NOTICE[:60]}"\n',
        "utf-8-sig",
    )
    result, _, qrels = gather(source, tmp_path / "out")
    assert qrels == {"all": {"When is the rent due?": {"rent": 1, "end": 1}, "Who mends the roof?": {"repair": 1}}}
    assert result.counts["queries"] == 2
    assert result.counts["found: exact"] == 2 and result.counts["found: part"] == 1
    assert result.dropped == {}


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_tables_from_chinese_spreadsheets(tmp_path, encoding):
    text = "承租人应当按照约定的期限支付租金，对支付租金的期限没有约定的，应当在租赁期限届满时一次支付完毕。"
    source = tmp_path / "标注.csv"
    source.write_bytes(f"问题;段落\n什么时候交房租？;{text}\n".encode(encoding))
    _, _, qrels = gather(source, tmp_path / "out", {"z": Passage("z", "民法典", text)})
    assert qrels == {"all": {"什么时候交房租？": {"z": 1}}}


def test_triplets_keep_their_negatives_as_grade_0(tmp_path):
    row = {"anchor": "When is the rent due?", "positive": LEASE, "negative": REPAIR, "negative_2": NOTICE}
    result, _, qrels = gather(jsonl(tmp_path / "t.jsonl", row), tmp_path / "out")
    assert qrels["all"] == {"When is the rent due?": {"rent": 1, "repair": 0, "end": 0}}
    assert result.counts["labelled negatives"] == 2


def test_sentence_pairs_count_from_half_of_their_scale(tmp_path):
    rows = [("rent day?", LEASE, 5.0), ("rent day?", REPAIR, 2.4), ("leaving?", NOTICE, 2.5)]
    source = tmp_path / "sts.tsv"
    source.write_text("sentence1\tsentence2\tscore\n" + "".join(f"{a}\t{b}\t{c}\n" for a, b, c in rows))
    result, _, qrels = gather(source, tmp_path / "out")
    assert qrels["all"] == {"rent day?": {"rent": 1, "repair": 0}, "leaving?": {"end": 1}}
    assert any("scale of 5" in note and "from 2.5" in note for note in result.notes)


def test_flag_embedding_rows(tmp_path):
    row = {"query": "rent", "pos": [LEASE, NOTICE], "neg": [REPAIR], "pos_scores": [0.9, 0.1], "neg_scores": [0.2]}
    with gzip.open(tmp_path / "f.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(row))
    _, _, qrels = gather(tmp_path / "f.jsonl.gz", tmp_path / "out")
    assert qrels["all"] == {"rent": {"rent": 1, "end": 1, "repair": 0}}


def test_parquet_and_passage_ids(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"Query": ["rent", "end"], "Passage-ID": ["rent", "gone"], "Label": [1, 1]})
    pyarrow.parquet.write_table(table, tmp_path / "l.parquet")
    result, _, qrels = gather(tmp_path / "l.parquet", tmp_path / "out")
    assert qrels["all"] == {"rent": {"rent": 1}}
    assert result.dropped["labelled passage id not in the corpus"] == 1
    assert result.details["not_found"][0]["where"] == "l.parquet:2"


def test_what_is_not_found_is_listed_with_line_and_nearest(tmp_path):
    other = "The bank may call the loan when a payment is more than thirty days late and a reminder went unanswered."
    half = NOTICE[:50] + " and something altogether different stands in the rest of it, which is new"
    source = jsonl(
        tmp_path / "l.jsonl",
        {"query": "rent", "passage": LEASE},
        {"query": "loan", "passage": other},
        {"query": "rent", "passage": half},
    )
    result, queries, _ = gather(source, tmp_path / "out")
    assert [query.text for query in queries.values()] == ["rent"]
    loan, near = result.details["not_found"]
    assert loan["where"] == "l.jsonl:2" and loan["text"] == other[:120]
    assert near["best"] == "end" and 0.2 < near["similarity"] < 0.85
    assert result.dropped == {
        "labelled passage not found in the corpus": 2,
        "query without a passage in the corpus": 1,
    }
    lines = (tmp_path / "out" / "not_found.jsonl").read_text().splitlines()
    assert [json.loads(line)["where"] for line in lines] == ["l.jsonl:2", "l.jsonl:3"]


def test_broken_rows_are_named_and_the_others_used(tmp_path):
    source = jsonl(
        tmp_path / "l.jsonl",
        {"query": "rent", "passage": LEASE},
        '{"query": "half',
        {"query": "  ", "passage": LEASE},
        {"query": "x", "passage": {"text": LEASE}},
        [1],
        {"query": "y", "passage": LEASE, "score": "much"},
    )
    result, queries, _ = gather(source, tmp_path / "out")
    assert len(queries) == 1 and result.dropped["broken row"] == 5
    broken = result.details["broken_rows"]
    assert [entry.split(": ")[0] for entry in broken] == [f"l.jsonl:{n}" for n in (2, 3, 4, 5, 6)]
    assert "no query" in broken[1] and "score 'much'" in broken[4]


def test_a_row_with_too_many_cells_is_broken(tmp_path):
    (tmp_path / "l.csv").write_text(f'query,passage\nrent,{LEASE}\nend,"{NOTICE}"\n')
    result, _, qrels = gather(tmp_path / "l.csv", tmp_path / "out")
    assert list(qrels["all"]) == ["end"]
    assert result.details["broken_rows"] == ["l.csv:2: 3 cells under 2 columns"]


def test_a_positive_elsewhere_beats_a_negative(tmp_path):
    source = jsonl(
        tmp_path / "l.jsonl",
        {"query": "rent", "pos": [LEASE], "neg": [NOTICE]},
        {"query": "rent", "pos": [NOTICE]},
    )
    result, _, qrels = gather(source, tmp_path / "out")
    assert qrels["all"] == {"rent": {"rent": 1, "end": 1}}
    assert result.dropped == {"negative label that another row calls positive": 1}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.jsonl", '{"a": 1}\n{"b": 2}\n', "none of its 2 rows can be used; the first: l.jsonl:1: no query"),
        ("l.csv", "query,passage\n", "none of its 0 rows"),
        ("l.jsonl", '{"query": "q", "passage": "An altogether different text."}', "no labelled passage"),
        ("l.docx", "x", "not a format of labels"),
        ("l.parquet", "not parquet", "not a Parquet file"),
        ("l.json", "[{]", "not valid JSON"),
    ],
)
def test_nothing_usable_is_an_error_that_names_the_file(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=r".*") as caught:
        gather(tmp_path / name, tmp_path / "out")
    assert says in caught.value.message and name in caught.value.message
    assert caught.value.hint


def test_a_missing_path_and_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        gather(tmp_path / "none.csv", tmp_path / "out")
    with pytest.raises(InputError, match="no labels in it"):
        gather(tmp_path, tmp_path / "out")


def beir(folder: Path, passages: list[Passage], qrels: dict[str, str], queries: str = "ab") -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_corpus(folder / "corpus.jsonl", passages)
    jsonl(folder / "queries.jsonl", *({"_id": q, "text": f"question {q}"} for q in queries))
    for name, rows in qrels.items():
        (folder / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def test_a_beir_folder_keeps_its_split_and_grades(tmp_path):
    source = beir(
        tmp_path / "b", list(PASSAGES.values()), {"train": "a\trent\t2\na\tend\t0\n", "validation": "b\trepair\t1\n"}
    )
    (source / "meta.json").write_text('{"relevance_threshold": 1, "evaluation": "judged-only"}')
    result, _, qrels = gather(source, tmp_path / "out")
    assert qrels == {"train": {"question a": {"rent": 2, "end": 0}}, "dev": {"question b": {"repair": 1}}}
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["evaluation"] == "judged-only"
    assert result.counts["found: by id"] == 3


def test_a_beir_folder_with_other_ids_is_matched_by_text(tmp_path):
    theirs = [Passage("1", "", LEASE), Passage("rent", "", NOTICE.upper()), Passage("3", "", "Nothing of ours at all.")]
    source = beir(tmp_path / "b", theirs, {"test": "a\t1\t1\na\t3\t1\nb\trent\t1\n"})
    result, _, qrels = gather(source, tmp_path / "out")
    # "rent" is an id of ours, too, but of another passage.
    assert qrels == {"all": {"question a": {"rent": 1}, "question b": {"end": 1}}}
    assert result.dropped == {"labelled passage not found in the corpus": 1}


def test_a_file_beside_a_split_is_left_out_so_that_test_stays_test(tmp_path):
    rows = {"train": "a\trent\t1\n", "test": "b\tend\t1\n", "test-hard": "b\tend\t1\na\trent\t1\n"}
    result, _, qrels = gather(beir(tmp_path / "b", list(PASSAGES.values()), rows), tmp_path / "out")
    assert qrels == {"train": {"question a": {"rent": 1}}, "test": {"question b": {"end": 1}}}
    assert any(note.startswith("qrels/test-hard.tsv was left out") for note in result.notes)


@pytest.mark.parametrize("train", ["", "a\trent\t0\n"])
def test_test_queries_are_not_divided_anew_where_train_is_empty(tmp_path, train):
    source = beir(
        tmp_path / "b", list(PASSAGES.values()), {"train": train, "dev": "a\trent\t1\n", "test": "b\tend\t1\n"}
    )
    with pytest.raises(InputError, match=r"train\.tsv has no query") as caught:
        gather(source, tmp_path / "out")
    assert "remove it" in caught.value.hint


def test_what_is_no_split_is_put_together_and_it_is_said(tmp_path):
    source = beir(tmp_path / "b", list(PASSAGES.values()), {"dev": "a\trent\t1\n", "test": "b\tend\t1\n"})
    result, _, qrels = gather(source, tmp_path / "out")
    assert list(qrels) == ["all"]
    assert any(note.startswith("qrels/dev.tsv and qrels/test.tsv were put together") for note in result.notes)


def test_a_dev_file_without_a_relevant_passage_is_named(tmp_path):
    rows = {"train": "a\trent\t1\n", "dev": "a\trent\t0\n", "test": "b\tend\t1\n"}
    result, _, qrels = gather(beir(tmp_path / "b", list(PASSAGES.values()), rows), tmp_path / "out")
    assert set(qrels) == {"train", "test"}
    assert "dev.tsv: none of its queries has a relevant passage in the corpus." in result.notes


def test_files_of_an_earlier_run_do_not_stay(tmp_path):
    source = beir(tmp_path / "b", list(PASSAGES.values()), {"train": "a\trent\t1\n", "test": "b\tend\t1\n"})
    gather(source, tmp_path / "out")
    gather(jsonl(tmp_path / "l.jsonl", {"query": "rent", "passage": LEASE}), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "qrels").iterdir()] == ["all.tsv"]
    write_corpus(tmp_path / "out" / "corpus.jsonl", PASSAGES.values())
    assert set(load_beir(tmp_path / "out").qrels) == {"all"}


@pytest.mark.parametrize(
    ("scores", "scale"),
    [([0, 1, 1], 1), ([-0.3, 0.9], 1), ([0, 2, 3], 3), ([4.8, 0.2], 5), ([80, 3], 100), ([250], 250), ([], 1)],
)
def test_the_scale_follows_the_largest_score(scores, scale):
    assert scale_of(map(float, scores)) == scale


def test_words_for_scores_and_rows_without_one():
    assert parse_row({"query": "q", "passage": "p", "label": "Entailment"}).judged[0].score == 1.0
    assert parse_row({"query": "q", "passage": "p", "label": "否"}).judged[0].score == 0.0
    assert is_relevant(None, 5) and is_relevant(2.5, 5) and not is_relevant(float("-inf"), 1)
