from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldtune.vector_uses import begin_uses, end_uses, note_use, prune

A, B, C = "a" * 20, "b" * 20, "c" * 20


def keep(folder: Path, *keys: str) -> None:
    folder.mkdir(exist_ok=True)
    for key in keys:
        (folder / f"{key}.npy").write_bytes(b"x" * 100)
        (folder / f"{key}.json").write_text("{}")


def ran(folder: Path, stage: str, *keys: str) -> None:
    begin_uses(folder)
    keep(folder, *keys)
    for key in keys:
        note_use(folder, key)
    end_uses(folder, stage)


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.npy")}


def test_what_a_stage_no_longer_reads_is_removed_and_counted(tmp_path: Path) -> None:
    ran(tmp_path, "dataset", A)
    ran(tmp_path, "evaluation", A, B)
    assert prune(tmp_path, ["dataset", "evaluation"]) == (0, 0)
    ran(tmp_path, "evaluation", A, C)
    assert prune(tmp_path, ["dataset", "evaluation"]) == (1, 102)
    assert names(tmp_path) == {A, C}
    ran(tmp_path, "evaluation", C)
    prune(tmp_path, ["dataset", "evaluation"])
    assert names(tmp_path) == {A, C}  # the dataset stage, which did not run again, reads A


def test_what_a_killed_stage_asked_for_is_not_counted_as_the_next_ones(tmp_path: Path) -> None:
    keep(tmp_path, A)
    note_use(tmp_path, A)  # and then it was killed
    ran(tmp_path, "dataset", B)
    assert json.loads((tmp_path / "uses.json").read_text()) == {"dataset": [B]}
    prune(tmp_path, ["dataset"])
    assert names(tmp_path) == {B}


def test_nothing_goes_where_it_is_not_known_what_a_finished_stage_reads(tmp_path: Path) -> None:
    keep(tmp_path, A)
    ran(tmp_path, "evaluation", B)
    assert prune(tmp_path, ["dataset", "evaluation"]) == (0, 0)
    assert names(tmp_path) == {A, B}


def test_files_of_other_names_and_folders_of_other_runs_stay(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    keep(other, A)
    ran(mine, "dataset", B)
    keep(mine, C)
    (mine / "notes.npy").write_text("the user's own")
    (mine / f"{C}.txt").write_text("the user's own")
    assert prune(mine, ["dataset"])[0] == 1
    assert {path.name for path in mine.iterdir()} == {f"{B}.npy", f"{B}.json", "uses.json", "notes.npy", f"{C}.txt"}
    assert names(other) == {A}


def test_a_linked_folder_may_be_another_runs_too(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "vectors"
    ran(shared, "dataset", A)
    keep(shared, B)
    try:
        link.symlink_to(shared, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert prune(link, ["dataset"]) == (0, 0)
    assert names(shared) == {A, B}


def test_vectors_of_three_kinds_go_in_the_same_way(tmp_path: Path) -> None:
    for key in (A, B):
        (tmp_path / f"m3-{key}").mkdir()
        (tmp_path / f"m3-{key}" / "tokens").write_bytes(b"x" * 100)
    (tmp_path / "m3-mine").mkdir()
    begin_uses(tmp_path)
    note_use(tmp_path, f"m3-{A}")
    end_uses(tmp_path, "index")
    assert prune(tmp_path, ["index"]) == (1, 100)
    assert sorted(path.name for path in tmp_path.glob("m3-*")) == [f"m3-{A}", "m3-mine"]
