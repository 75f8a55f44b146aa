"""A tuned model put into the folder that the user named: its files and no others, and never at the user's cost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fieldtune.cache import remembered_digest
from fieldtune.errors import InputError
from fieldtune.workspace import read_json, write_json

RUN = "run"
"""Below the model's folder: the run that made it."""
_RECORD = ".fieldtune-installed.json"
"""Path -> SHA-256 of each file that was put there; during a change also those that are on their way in or out."""
# Without config.json (in older models: without modules.json) nothing loads: what a killed install leaves is no mixture
# of two models.
_LAST = ("modules.json", "config.json")
_CARD = "README.md"
_SHOWN = 5


def require_ours(out: Path) -> None:
    """Raise InputError where `out` holds files that no earlier install put there, or that were changed since.

    Hidden files stay where they are and are no hindrance.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder", "give another --out", path=out)
    if foreign := changed_files(out):
        listed = ", ".join(repr(name)[1:-1] for name in foreign[:_SHOWN])
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise InputError(
            f"holds files that fieldtune train did not write, or that were changed since: {listed}{more}",
            "give a new folder as --out, or move them away: they would be taken for parts of the model",
            path=out,
        )


def changed_files(out: Path) -> list[str]:
    """Files in `out` that no earlier install put there, or that were changed since."""
    known = _known(out)
    return [name for name, path in _files(out).items() if remembered_digest(path) not in known.get(name, ())]


def install_card(model: Path, out: Path) -> None:
    """Make the card of the saved model that of `out`, where the rest of the model already is."""
    known, digest = _known(out), remembered_digest(model / _CARD)
    _write_record(out, known | {_CARD: known.get(_CARD, set()) | {digest}})
    _link(model / _CARD, out / _CARD)
    _write_record(out, known | {_CARD: {digest}})


def install_model(model: Path, out: Path) -> None:
    """Make the files of the saved model `model` those of `out`; what an earlier install put there goes.

    At every moment `out` is the old model, the new one, or nothing that loads; a killed install is finished by the next
    one. Raises InputError, before anything is changed, for files in `out` that are not from an earlier install.
    """
    require_ours(out)
    new = _files(model)
    digests = {name: remembered_digest(path) for name, path in new.items()}
    known, old = _known(out), _files(out)
    unchanged = {name for name, path in old.items() if digests.get(name) == remembered_digest(path)}
    if unchanged == old.keys() == new.keys():
        _write_record(out, {name: {digest} for name, digest in digests.items()})
        return
    _write_record(out, {name: known.get(name, set()) | {digests.get(name, "")} for name in known.keys() | digests})
    for name in sorted(old, key=lambda name: _position(name, reverse=True)):
        (out / name).unlink()
    for name in sorted(new, key=_position):
        _link(new[name], out / name)
    for folder in sorted({(out / name).parent for name in old.keys() - new.keys()}, reverse=True):
        if folder != out and not any(folder.iterdir()):
            folder.rmdir()
    _write_record(out, {name: {digest} for name, digest in digests.items()})


def _position(name: str, *, reverse: bool = False) -> tuple[int, str]:
    """Those that make a folder a model come last, and go first."""
    rank = _LAST.index(name) + 1 if name in _LAST else 0
    return (-rank if reverse else rank, name)


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)  # the same bytes once on disk
    except OSError:  # another disk, or a file system without links
        shutil.copy2(path, temporary)
    temporary.replace(target)


def _files(folder: Path) -> dict[str, Path]:
    """The files of a model's folder by their names in it, without hidden ones and those of the run below."""
    found = {}
    for parent, folders, names in os.walk(folder):
        top = Path(parent) == folder
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (top and name == RUN))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith("."):
                found[path.relative_to(folder).as_posix()] = path
    return found


def _known(out: Path) -> dict[str, set[str]]:
    """What an earlier install put there; of one by a version that kept no record, what equals its run's model."""
    if (out / _RECORD).exists():
        record: dict[str, list[str]] = read_json(out / _RECORD)
        return {name: set(digests) for name, digests in record.items()}
    return {name: {remembered_digest(path)} for name, path in _files(out / RUN / "model").items()}


def _write_record(out: Path, digests: dict[str, set[str]]) -> None:
    write_json(out / _RECORD, {name: sorted(found) for name, found in sorted(digests.items())})
