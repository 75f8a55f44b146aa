"""Labels made on the page, and read back by the parts of fieldtune that train and measure on them."""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from page_cases import EVIL, page_passages, write_page_run
from selectolax.lexbor import LexborHTMLParser as HTMLParser
from serving_cases import eventually, serving

from fieldtune.beir import load_beir
from fieldtune.evaluation import add_judgements, read_judgements
from fieldtune.queries.labels import read_labels
from fieldtune.serving.labels import Labels

PASSAGES = {one.id: one for one in page_passages()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    return write_page_run(tmp_path_factory.mktemp("labelled") / "run", tiny_model)


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[httpx.Client]:
    with serving(run, labels=True) as (address, _):
        headers = {"Origin": address, "HX-Request": "true"}
        with httpx.Client(base_url=address, headers=headers, timeout=30) as made:
            yield made


def say(served: httpx.Client, query: str, passage: str, said: str, **more: str) -> httpx.Response:
    return served.post(
        "/label", data={"q": query, "id": passage, "said": said, "rank": "1", "by": "A. Counsel", **more}
    )


def test_what_was_marked_is_what_the_next_run_trains_and_measures_on(served: httpx.Client, run: Path) -> None:
    data = load_beir(run / "data")
    known = next(query for key, query in data.queries.items() if key in data.qrels["test"])
    fresh = "Who   may end the lease, and when?"
    for query, passage, said in (
        (known.text.upper(), "p3", "right"), (known.text, "p4", "wrong"), (fresh, "zh-1", "right"),
        (fresh, "evil", "wrong"), (fresh, "p9", "right"), (fresh, "p9", "neither"), (fresh, "p10", "wrong"),
        (fresh, "p10", "right"),
    ):  # fmt: skip
        answer = say(served, query, passage, said)
        assert answer.status_code == 200, answer.text
        pressed = [node.attributes["aria-pressed"] for node in HTMLParser(answer.text).css(".verdict button")]
        assert pressed == [str(said == "right").lower(), str(said == "wrong").lower()]
    found = served.get("/labels", headers={"HX-Request": ""}).text  # which writes the files
    assert "A. Counsel" in found and "judgements-test.csv" in found and "2 queries" in found
    # queries.from = RUN/labels
    made = read_labels(run / "labels", PASSAGES, 0.85)
    asked = next(key for key, query in made.queries.items() if query.text == "Who may end the lease, and when?")
    assert made.qrels["all"][asked] == {"zh-1": 1, "evil": 0, "p10": 1}
    # Test questions are for measuring: whoever trains on them measures nothing.
    assert known.id not in made.qrels["all"] and known.id not in made.queries
    assert not {"p3", "p4"} & set(load_beir(run / "labels").passages)
    assert made.dropped == {} and made.not_found == ()
    # fieldtune evaluate --split test --judgements RUN/labels/judgements-test.csv
    filled = read_judgements(run / "labels" / "judgements-test.csv", data, "test")
    assert filled.grades == {known.id: {"p3": 1, "p4": 0}}
    assert add_judgements(data, "test", filled).qrels["test"][known.id] == {
        "p3": 1,
        "p4": 0,
        **data.qrels["test"][known.id],
    }
    assert not (run / "labels" / "judgements-dev.csv").exists()
    # A passage that was cut anew under another id is found by its text.
    moved = {f"new-{key}": passage for key, passage in PASSAGES.items()}
    renamed = {f"new-{key}": one for key, one in zip(PASSAGES, moved.values(), strict=True)}
    assert read_labels(run / "labels", renamed, 0.85).qrels["all"][asked]["new-zh-1"] == 1


def test_who_and_when_are_kept_and_nothing_is_taken_out(served: httpx.Client, run: Path) -> None:
    say(served, "lease", "p1", "right")
    answer = say(served, "lease", "p1", "neither", by="李律师 <b>")
    assert "fieldtune_name=" in answer.headers["set-cookie"]
    rows = [json.loads(line) for line in (run / "labels" / "journal.jsonl").read_text("utf-8").splitlines()]
    last = [row for row in rows if row["query"] == "lease" and row["passage"] == "p1"][-2:]
    assert [(row["right"], row["by"]) for row in last] == [(True, "A. Counsel"), (None, "李律师 <b>")]
    assert all(row["at"].endswith("+00:00") and row["text"] for row in last)
    served.cookies.clear()


def test_results_show_what_was_said_before(served: httpx.Client) -> None:
    query = "notice tenant"
    first = HTMLParser(served.get(f"/?q={query}").text).css('.hit input[name="id"]')[0].attributes["value"]
    assert first is not None
    say(served, query, first, "wrong")
    found = HTMLParser(served.get("/?q= Notice  TENANT ").text)
    assert [node.attributes["aria-pressed"] for node in found.css(".hit .no")][:2] == ["true", "false"]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [({"Origin": "http://evil.example"}, False), ({"Origin": "null"}, False), ({"Origin": ""}, False),
     ({"Sec-Fetch-Site": "cross-site"}, False), ({"Sec-Fetch-Site": "same-site"}, False),
     ({"Origin": "", "Sec-Fetch-Site": "same-origin"}, True)],
)  # fmt: skip
def test_other_sites_cannot_label(served: httpx.Client, headers: dict[str, str], allowed: bool) -> None:
    answer = served.post("/label", data={"q": "x", "id": "p1", "said": "right"}, headers=headers)
    assert answer.status_code == (200 if allowed else 403)


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"q": "lease", "id": "none", "said": "right"}, 404), ({"q": "", "id": "p1", "said": "right"}, 400),
     ({"q": "lease", "id": "p1", "said": "perhaps"}, 400), ({}, 400),
     ({"q": "x" * 5_000, "id": "p1", "said": "right"}, 400)],
)  # fmt: skip
def test_what_cannot_be_a_label_is_refused(served: httpx.Client, fields: dict[str, str], status: int) -> None:
    assert served.post("/label", data=fields).status_code == status


def test_labels_are_off_unless_wanted(run: Path) -> None:
    with serving(run) as (address, _), httpx.Client(base_url=address, headers={"Origin": address}) as made:
        assert made.post("/label", data={"q": "a", "id": "p1", "said": "right"}).status_code == 404
        assert made.get("/labels").status_code == 404 and "verdict" not in made.get("/?q=lease").text


def test_a_line_that_a_crash_cut_off_costs_nothing_but_itself(tmp_path: Path, run: Path) -> None:
    (tmp_path / "data").symlink_to(run / "data")
    Labels(tmp_path).add("first", PASSAGES["p1"], True, "a")
    journal = tmp_path / "labels" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"query": "cut o')
    labels = Labels(tmp_path)
    labels.add("second", PASSAGES["p2"], False, "b")
    assert Labels(tmp_path).counts() == (2, 1, 1) == labels.counts()


def test_a_label_that_cannot_be_written_is_not_said_to_be_saved(
    served: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Labels, "add", full)
    answer = say(served, "lease", "p1", "right")
    assert answer.status_code == 503 and "was not saved" in answer.text and "no space" not in answer.text


def _label(folder: Path, number: int) -> None:
    for row in range(10):
        Labels(folder).add(f"query {number}", PASSAGES[f"p{row}"], row % 2 == 0, f"worker {number}")


def test_several_processes_write_without_losing_a_line(tmp_path: Path, run: Path) -> None:
    (tmp_path / "data").symlink_to(run / "data")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_label, args=(tmp_path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    again = Labels(tmp_path)
    assert again.counts() == (3, 15, 15)
    again.write_out()
    made = read_labels(tmp_path / "labels", PASSAGES, 0.85)
    assert {len(row) for row in made.qrels["all"].values()} == {10}


def test_spreadsheets_cannot_be_made_to_run_a_query(tmp_path: Path, run: Path) -> None:
    (tmp_path / "data").symlink_to(run / "data")
    known = next(iter(load_beir(run / "data").queries.values()))
    labels = Labels(tmp_path)
    labels.add(known.text, PASSAGES["evil"], True, EVIL)
    labels.close()
    (path,) = (tmp_path / "labels").glob("judgements-*.csv")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["corpus-id"] == "evil" and row["grade"] == "1" and not row["text"].startswith(("=", "+", "-", "@"))


def test_a_click_writes_one_line_and_the_rest_comes_later_or_after_a_restart(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(run / "data")
    monkeypatch.setattr("fieldtune.serving.labels._LATER_SECONDS", 600)
    journal, grades = tmp_path / "labels" / "journal.jsonl", tmp_path / "labels" / "qrels" / "all.tsv"
    crashed = Labels(tmp_path)
    for row in range(5):
        crashed.add("who pays", PASSAGES[f"p{row}"], True, "a")
    assert len(journal.read_bytes().splitlines()) == 5 and not grades.exists()
    restarted = Labels(tmp_path)
    assert restarted.of("WHO  pays") == {f"p{row}": True for row in range(5)}
    restarted.close()
    assert len(grades.read_text().splitlines()) == 6
    stamp = grades.stat().st_mtime_ns
    restarted.write_out()
    assert grades.stat().st_mtime_ns == stamp, "written again though nothing was said"
    # What another process adds is taken up from where the last look ended.
    crashed.add("who pays", PASSAGES["p1"], None, "a")
    damage = journal.read_bytes()
    journal.write_bytes(b"x" * damage.index(b"\n") + damage[damage.index(b"\n") :] + damage.splitlines()[-2] + b"\n")
    assert restarted.of("who pays") == {f"p{row}": True for row in (0, 2, 3, 4)}
    restarted.close()
    assert len(grades.read_text().splitlines()) == 5


def test_files_follow_a_label_by_themselves(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").symlink_to(run / "data")
    monkeypatch.setattr("fieldtune.serving.labels._LATER_SECONDS", 0.1)
    labels = Labels(tmp_path)
    for passage in ("p1", "p2"):
        labels.add("who pays", PASSAGES[passage], True, "a")
        eventually(lambda: (tmp_path / "labels" / "meta.json").exists(), 10)
    eventually(lambda: len((tmp_path / "labels" / "qrels" / "all.tsv").read_text().splitlines()) == 3, 10)


def test_a_stop_writes_what_was_said(tmp_path: Path, tiny_model: str) -> None:
    run = write_page_run(tmp_path / "run", tiny_model)
    with serving(run, labels=True) as (address, _), httpx.Client(base_url=address, timeout=30) as made:
        assert (
            made.post(
                "/label", data={"q": "who pays", "id": "p9", "said": "right"}, headers={"Origin": address}
            ).status_code
            < 400
        )
    assert "\tp9\t1" in (run / "labels" / "qrels" / "all.tsv").read_text()
