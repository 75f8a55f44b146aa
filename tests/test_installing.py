from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune import installing
from fieldtune.errors import InputError
from fieldtune.installing import install_model, require_ours


def saved(folder: Path, **files: str) -> Path:
    """A folder with these contents; in names, two underscores are a slash and one a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def visible(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return saved(tmp_path / "first", modules_json="[1]", config_json="1", weights_bin="one", Dense__config_json="d")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return saved(tmp_path / "second", modules_json="[2]", config_json="2", weights_safetensors="two")


def test_another_model_leaves_nothing_of_the_first(first: Path, second: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    install_model(first, out)
    assert visible(out) == visible(first)
    install_model(second, out)
    assert visible(out) == visible(second)
    assert not (out / "Dense").exists()
    install_model(second, out)
    assert visible(out) == visible(second)


def test_the_run_below_and_hidden_files_stay(first: Path, second: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    install_model(first, out)
    saved(out / "run", metrics_json="{}")
    (out / ".gitattributes").write_text("the user's own")
    install_model(second, out)
    assert (out / "run" / "metrics.json").read_text() == "{}"
    assert (out / ".gitattributes").read_text() == "the user's own"


@pytest.mark.parametrize("name", ["notes.txt", "Dense/notes.txt", "config.json"])
def test_what_the_user_put_there_or_changed_is_never_touched(
    name: str, first: Path, second: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    install_model(first, out)
    (out / name).unlink(missing_ok=True)
    (out / name).write_text("the user's own")
    before = visible(out)
    with pytest.raises(InputError, match=name) as caught:
        install_model(second, out)
    assert "--out" in caught.value.hint
    assert visible(out) == before


def test_a_folder_with_other_things_in_it_is_refused(second: Path, tmp_path: Path) -> None:
    out = saved(tmp_path / "out", **{f"paper{number}_pdf": "x" for number in range(9)})
    with pytest.raises(InputError, match=r"paper0\.pdf.* and 4 more"):
        require_ours(out)
    with pytest.raises(InputError, match="is a file"):
        require_ours(out / "paper0.pdf")
    require_ours(tmp_path / "not there yet")


def test_a_model_of_a_version_without_records_is_known_by_its_run(first: Path, second: Path, tmp_path: Path) -> None:
    out = saved(tmp_path / "out", modules_json="[1]", weights_bin="one")
    saved(out / "run" / "model", modules_json="[1]", weights_bin="one")
    install_model(second, out)
    assert visible(out).keys() == visible(second).keys() | {"run/model/modules.json", "run/model/weights.bin"}


@pytest.mark.parametrize("moment", range(8))
def test_killed_at_any_moment_it_is_no_mixture_and_the_next_call_mends_it(
    moment: int, first: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "out", [moment]
    install_model(first, out)
    real_unlink, real_link = Path.unlink, installing._link

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent == out or out in path.parents:
            count()
        real_unlink(path, missing_ok)

    def link(path: Path, target: Path) -> None:
        count()
        real_link(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        patched.setattr(installing, "_link", link)
        with pytest.raises(KeyboardInterrupt):
            install_model(second, out)
    there = visible(out)
    assert there == visible(first) or "config.json" not in there
    require_ours(out)
    install_model(second, out)
    assert visible(out) == visible(second)
