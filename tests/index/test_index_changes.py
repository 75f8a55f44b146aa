"""What happens to an index while others read it: rebuilt, killed, moved to another place, deleted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.config import Index as Settings
from fieldtune.errors import InputError, ModelError
from fieldtune.index import Index, build_index
from fieldtune.models import resolve_model
from fieldtune.types import Passage

DIM = 16
BUILDER = """
import sys
from pathlib import Path
import numpy as np
from fieldtune.config import Index
from fieldtune.index import build_index
from fieldtune.models import resolve_model
from fieldtune.types import Passage

run, first = Path(sys.argv[1]), int(sys.argv[2])
fingerprint = resolve_model(str(run / "model")).fingerprint
for version in range(first, first + 1000):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1_500, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    passages = [Passage(f"p{row}", "", f"version {version} text {row}") for row in range(1_500)]
    print("begin", version, flush=True)
    build_index(Index(), passages, vectors, run / "index", model_fingerprint=fingerprint, model=run / "model", seed=1)
    print("committed", version, flush=True)
"""


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "Transformer"}]))
    (folder / "config.json").write_text(json.dumps({"vocab_size": 9, "model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "run"


def build(run: Path, version: int, count: int = 60, config: Settings | None = None, **more: Any):
    vectors = unit(np.random.default_rng(0).normal(size=(count, DIM)))
    passages = [Passage(f"p{row}", "", f"version {version} text {row}") for row in range(count)]
    fingerprint = resolve_model(str(run / "model")).fingerprint
    return build_index(
        config or Settings(), passages, vectors, run / "index", model_fingerprint=fingerprint, model=run / "model",
        seed=1, **more,
    )  # fmt: skip


def versions(index: Index, count: int = 10) -> set[str]:
    vectors = np.asarray(index.stored_vectors()[:1])
    hits = index.search_vectors(vectors, count, queries=["text version"], mode="hybrid")[0]
    return {hit.passage.text.split()[1] for hit in hits}


def test_a_killed_build_loses_nothing_that_was_committed(run: Path) -> None:
    """SIGKILL at many moments of a build; what was said to be committed is what the next open serves, whole."""
    committed, mid_build = 0, 0
    for delay in (0.0, 0.03, 0.08, 0.15):
        command = [sys.executable, "-c", BUILDER, str(run), str(committed + 1)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = []
        while len(said) < 3:  # begin, committed, begin
            said.append(process.stdout.readline().split())
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        said += [line.split() for line in rest.splitlines()]
        committed = max(int(number) for word, number in said if word == "committed")
        begun = max(int(number) for word, number in said if word == "begin")
        mid_build += begun > committed
        index = Index.open(run)
        found = versions(index)
        # The change-over itself may have happened just before the word of it was out.
        assert found in ({str(committed)}, {str(committed + 1)})
        assert len(index) == 1_500 and len(list(index.iterate())) == 1_500
        committed = int(found.pop())
    assert mid_build >= 2
    build(run, 9_999)
    assert versions(Index.open(run)) == {"9999"}
    assert len(list((run / "index").glob("*-*"))) == 4  # this version and the one before; of killed builds nothing


def test_readers_find_one_whole_version_while_it_is_rebuilt(run: Path) -> None:
    build(run, 0)
    index = Index.open(run)
    seen: list[set[str]] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(versions(index))
                index.search_vectors(np.asarray(index.stored_vectors()[:1]), 3, where={"page": None})
        except BaseException as error:  # whatever it is must fail the test
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for version in range(1, 7):
        build(run, version)
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert all(len(one) == 1 for one in seen)
    assert len({one.copy().pop() for one in seen}) > 1
    assert versions(index) == {"6"} and not index.refresh()


def test_an_open_reader_keeps_the_version_before(run: Path) -> None:
    build(run, 1)
    index = Index.open(run)
    snapshot = index._snapshot
    build(run, 2)
    assert snapshot.store[3].text == "version 1 text 3"
    assert (run / "index" / "files-1").exists()
    assert index.refresh() and not index.refresh()
    build(run, 3)
    assert not (run / "index" / "files-1").exists()


def test_another_model_is_refused_and_a_deleted_index_goes_on(run: Path) -> None:
    build(run, 1)
    index = Index.open(run)
    vector = np.asarray(index.stored_vectors()[:1])
    shutil.move(run / "index", run / "away")
    assert index.search_vectors(vector, 1)[0][0].passage.id == "p0"
    with pytest.raises(InputError, match="no index"):
        Index.open(run)
    shutil.move(run / "away", run / "index")
    (run / "model" / "model.safetensors").write_bytes(b"others!")
    build(run, 2)
    with pytest.raises(ModelError, match="another model"):
        index.search_vectors(vector, 1)
    with pytest.raises(ModelError, match="another model"):
        index.refresh()


def test_the_table_may_lie_elsewhere_and_opens_in_lancedb(run: Path, tmp_path: Path) -> None:
    import lancedb

    uri = f"file://{tmp_path / 'bucket'}"
    for version in range(3):
        build(run, version, 400, Settings(uri=uri, ann_above=100, min_recall=0.5))
    assert not list((run / "index").glob("*.lance"))
    index = Index.open(run)
    assert index.meta["nprobes"] > 0
    assert index.search_vectors(np.asarray(index.stored_vectors()[7:8]), 1)[0][0].passage.id == "p7"
    database = lancedb.connect(uri)
    own = index.meta["id"]
    assert sorted(database.table_names()) == [f"passages-{own}-2", f"passages-{own}-3"]
    other = tmp_path / "other"
    shutil.copytree(run, other)
    shutil.rmtree(other / "index")
    for version in range(2):  # another run in the same place takes nothing away
        build(other, version, 300, Settings(uri=uri))
    assert len(Index.open(run)) == 400 and len(Index.open(other)) == 300
    assert len(database.table_names()) == 4
    rows = database.open_table(index.meta["table"]).search().where('"row" = 7').to_list()
    assert [row["text"] for row in rows] == ["version 2 text 7"]


class Longest:
    """Stands in for a cross-encoder: the number at the end of a passage is its score."""

    name = "numbers"

    def scores(self, pairs, **_):
        return np.array([float(passage.split()[-1]) for _, passage in pairs])


def test_a_reranker_orders_the_first_results_anew(run: Path) -> None:
    build(run, 1)
    with pytest.raises(InputError, match="no reranker"):
        Index.open(run).search("text", mode="words", rerank=True)
    build(run, 1, config=Settings(reranker="numbers", rerank_depth=40))
    index = Index.open(run)
    index._reranker = Longest()
    hits = index.search("version text", 3, mode="words", rerank=True)
    assert [hit.passage.id for hit in hits] == ["p39", "p38", "p37"]  # of the first 40 by words
    assert hits[0].score == hits[0].parts["rerank"] == 39 and hits[0].parts["words_rank"] == 40
