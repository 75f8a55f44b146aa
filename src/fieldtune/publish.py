"""A run's model to a hub: what would be sent is shown first, and nothing but the model and its card leaves."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune.cache import remembered_digest
from fieldtune.errors import EndpointError, InputError, ModelError
from fieldtune.installing import RUN
from fieldtune.model_folder import PLACE, model_folder
from fieldtune.workspace import read_json

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FORMATS = (".safetensors", ".bin", ".json", ".txt", ".model", ".py", ".md", ".onnx", ".xml", ".jinja", ".vocab")
_LAYERS = ("sparse_linear.pt", "colbert_linear.pt")  # of a model that gives sparse and multi-vectors too
_NOT_SENT = ("report.html", "metrics.json", "per_query.csv", "run.json", "events.jsonl", "data", "documents", "queries")


@dataclass(frozen=True, slots=True)
class Upload:
    """One file; `name` is its place in the repository."""

    name: str
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Planned:
    """What a push would do."""

    repo: str
    public: bool
    files: tuple[Upload, ...]
    left_out: tuple[tuple[str, str], ...]
    """(name, why)."""
    warnings: tuple[str, ...]
    """Why the model should not be sent; `send` refuses while there is one."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def plan_push(run: Path, repo: str, *, public: bool) -> Planned:
    """List what would be sent of a run's model; needs no network and no token.

    Raises InputError for a malformed repository, ModelError where there is no model.
    """
    if not _REPO.fullmatch(repo):
        raise InputError(f"{repo!r} is no repository of a hub", "write it as NAME/REPO")
    model = model_folder(run)
    if model == run.resolve() and (model.parent / "stages").is_dir():  # the model of a run, named by its own folder
        run = model.parent
    files, left_out = [], []
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        name = path.relative_to(model).as_posix()
        if why := _kept_back(name):
            left_out.append((name, why))
        else:
            files.append(Upload(name, path, path.stat().st_size, remembered_digest(path)))
    if model != run.resolve():
        beside = "holds or may hold texts of yours"
        left_out += [(f"../{name}", beside) for name in _NOT_SENT if (run / name).exists()]
    return Planned(repo, public, tuple(files), _shortened(left_out), tuple(_warnings(run, files)))


def send(planned: Planned, *, anyway: bool, api: Any = None) -> str:
    """Create the repository where it is missing, send all files in one commit, and return its address.

    The token is read from HF_TOKEN, the hub's address from HF_ENDPOINT. Raises ModelError while there are warnings,
    unless `anyway`; InputError without a token, or where a repository is public and `public` was not asked for;
    EndpointError when the hub refuses or cannot be reached.
    """
    if planned.warnings and not anyway:
        raise ModelError(f"not sent: {' '.join(planned.warnings)}", "--anyway sends it nevertheless")
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise InputError("HF_TOKEN is not set", "put a token with write access there: export HF_TOKEN=…")
    from huggingface_hub import CommitOperationAdd, HfApi

    endpoint = os.environ.get("HF_ENDPOINT") or None
    hub = api or HfApi(endpoint=endpoint, token=token)
    try:
        made = hub.create_repo(planned.repo, private=not planned.public, exist_ok=True)
        private = hub.model_info(planned.repo).private
        if private is False and not planned.public:  # it was there before, open to everyone
            raise InputError(f"{planned.repo} exists and is public", "give --public, or another repository")
        operations = [CommitOperationAdd(file.name, _content(file, planned.repo)) for file in planned.files]
        hub.create_commit(planned.repo, operations, commit_message="Model tuned with fieldtune")
    except InputError:
        raise
    except Exception as error:  # no route, a proxy's answer, a refused token, a full account: the hub's own words help
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(token, "***")
        raise EndpointError(
            f"the hub did not take {planned.repo}: {first}", "check the name and the token's rights"
        ) from None
    return str(made)


def _kept_back(name: str) -> str:
    """Why a file of the model's folder is not sent; "" for one that is."""
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return "hidden or half-written"
    if any(part == "run" or part.startswith("checkpoint") for part in parts[:-1]):
        return "from training"
    if Path(name).suffix not in _FORMATS and name not in _LAYERS:
        return "no part of a model"
    if parts[-1] in ("metrics.json", "run.json") or parts[-1].endswith((".jsonl", ".csv", ".html")):
        return "holds or may hold texts of yours"
    return ""


def _shortened(left_out: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """A folder that is left out whole is named once."""
    found: dict[tuple[str, str], int] = {}
    for name, why in left_out:
        top = name.split("/")[0]
        key = (f"{top}/" if why == "from training" else name, why)
        found[key] = found.get(key, 0) + 1
    return tuple((f"{name} {count:,} files" if count > 1 else name, why) for (name, why), count in found.items())


def _warnings(run: Path, files: list[Upload]) -> list[str]:
    # Those of a model of `fieldtune train` lie in the run below it.
    path = next((path for path in (run / "metrics.json", run / RUN / "metrics.json") if path.exists()), None)
    if path is None:
        return ["The model was never measured."]
    metrics = read_json(path)
    verdict, general = metrics.get("verdict") or {}, metrics.get("general") or {}
    found = []
    if not verdict:
        found.append("The run has no verdict.")
    elif verdict["outcome"] in ("worse", "not trustworthy"):
        found.append(f"The verdict is {verdict['outcome']}: {verdict['headline']}")
    if general.get("failed"):
        found.append(str(general["sentence"]))
    if not any(file.name == "README.md" for file in files):
        found.append("There is no model card.")
    return found


def _content(file: Upload, repo: str) -> str | bytes:
    """The path, or, for the card, its text with the repository's name in the code."""
    if file.name != "README.md":
        return str(file.path)
    return file.path.read_text("utf-8").replace(PLACE, repo).encode()
