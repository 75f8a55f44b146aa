"""What this machine has and lacks for fieldtune: each check is quick, and none of them raises."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from fieldtune.builtin import BUILTINS, checked_package
from fieldtune.cache import cache_folder
from fieldtune.config import Llm
from fieldtune.errors import FieldtuneError

Status = Literal["ok", "info", "problem"]

_SECONDS = 2.0
_PACKAGES = (
    ("torch", "2.6"),
    ("sentence-transformers", "6"),
    ("transformers", "5"),
    ("lancedb", "0.25"),
    ("liteparse", "2.18"),
    ("numpy", "2"),
)
_DATA_WHEELS = {"simple-icd-10-cm": "fieldtune demo"}
_KEY = "FIELDTUNE_LLM_API_KEY"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report; `problem` means that something the user may want will not work."""

    name: str
    status: Status
    found: str
    cure: str = ""


def examine(llm: Llm | None = None, *, folder: Path | None = None) -> list[Check]:
    """Look at Python, packages, processor, memory, GPU, disk, hub, built-in models and the LLM endpoint's settings.

    `llm` is the config's section where there is a config, `folder` is where runs will be written. Takes a few seconds
    at most, the import of torch included.
    """
    checks: list[Check] = []
    looks: Sequence[tuple[str, Callable[[], Check | list[Check]]]] = (
        ("Python", _python),
        ("packages", _packages),
        ("processor", _processor),
        ("memory", _memory),
        ("GPU", _gpu),
        ("several devices", _several),
        ("disk", lambda: _disk(folder or Path.cwd())),
        ("hub", _hub),
        ("built-in models", _builtins),
        ("data", _data),
        ("LLM", lambda: _llm(llm or Llm())),
    )
    for name, look in looks:
        try:
            found = look()
        except Exception as error:  # a doctor that falls ill over one organ says nothing about the others
            found = Check(name, "problem", f"could not be looked at ({type(error).__name__}: {error})")
        checks += found if isinstance(found, list) else [found]
    return checks


def rows(checks: Sequence[Check]) -> list[tuple[str, str]]:
    """The checks as rows of a table: what was looked at, and its state with the cure."""
    return [
        (
            check.name,
            ("! " if check.status == "problem" else "") + check.found + (f" -> {check.cure}" if check.cure else ""),
        )
        for check in checks
    ]


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    good = sys.version_info >= (3, 11)
    return Check("Python", "ok" if good else "problem", found, "" if good else "fieldtune needs Python 3.11 or newer")


def _packages() -> list[Check]:
    checks = []
    for name, least in (("fieldtune", "0"), *_PACKAGES):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, "problem", "not installed", "pip install fieldtune"))
            continue
        good = _numbers(version) >= _numbers(least)
        checks.append(Check(name, "ok" if good else "problem", version, "" if good else f"needs {least} or newer"))
    return checks


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _processor() -> Check:
    from fieldtune.encoding.precision import processor_has_bf16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bf16 = "bf16 in hardware" if processor_has_bf16() else "no bf16 in hardware, fp32 is used"
    return Check("processor", "ok", f"{_processor_name()}, {cores} cores usable, {bf16}")


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # a container's own
        try:
            text = Path(limit).read_text("ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total or int(text), int(text))
    if not total:
        return Check("memory", "info", "unknown")
    enough = total >= 4e9
    cure = "" if enough else "lower training.batch_size and corpus.max_tokens"
    return Check("memory", "ok" if enough else "problem", _gigabytes(total), cure)


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        names = [
            f"{torch.cuda.get_device_name(place)}, {_gigabytes(torch.cuda.get_device_properties(place).total_memory)}"
            for place in range(torch.cuda.device_count())
        ]
        return Check("GPU", "ok", "; ".join(names))
    if torch.backends.mps.is_available():
        return Check("GPU", "ok", "Apple GPU (mps)")
    if Path("/proc/driver/nvidia/version").exists():
        return Check(
            "GPU", "problem", "there is an NVIDIA driver, but this torch cannot use it", "install a CUDA build"
        )
    return Check("GPU", "info", "none; the processor is used")


def _several() -> Check:
    """What torchrun has to work with, and the processes it has started where it did."""
    from torch import distributed

    if not distributed.is_available():
        return Check("several devices", "info", "this torch has no torch.distributed; one device is used")
    named = (("gloo", distributed.is_gloo_available()), ("nccl", distributed.is_nccl_available()))
    there = [name for name, here in named if here]
    processes = os.environ.get("WORLD_SIZE", "1")
    return Check("several devices", "ok", f"torchrun with {' and '.join(there)}; {processes} process(es) here")


def _disk(folder: Path) -> Check:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    enough = free >= 2e9
    cure = "" if enough else "a run takes 1 to 2 GB"
    return Check("disk", "ok" if enough else "problem", f"{_gigabytes(free)} free in {existing.absolute()}", cure)


def _hub() -> Check:
    cure = "builtin: models and local folders work without it"
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return Check("hub", "info", f"not asked ({name} is set)", cure)
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        status = _http_status(endpoint)
    except OSError as error:
        return Check("hub", "info", f"{endpoint} is not reachable ({error})", cure)
    if status >= 400:
        return Check("hub", "info", f"{endpoint} answers with status {status}", cure)
    return Check("hub", "ok", f"{endpoint} is reachable")


def _http_status(url: str) -> int:
    """The status of a HEAD request, by proxy where the environment names one; OSError where nothing answers."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OSError("not a web address")
    answers: list[int | OSError] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=_SECONDS) as answer:  # noqa: S310  # scheme is checked
                answers.append(int(answer.status))
        except HTTPError as error:
            answers.append(error.code)
        except OSError as error:
            answers.append(error)

    # A name server that stays silent ignores the timeout: the thread is then left behind, and may not hold up the end.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SECONDS + 0.5)
    answer = answers[0] if answers else OSError(f"no answer within {_SECONDS:.0f} s")
    if isinstance(answer, OSError):
        raise answer
    return answer


def _builtins() -> list[Check]:
    checks = []
    for model in BUILTINS.values():
        name = f"builtin:{model.name}"
        try:
            package = checked_package(model)
        except FieldtuneError as error:
            checks.append(Check(name, "problem", error.message, error.hint))
        else:
            checks.append(Check(name, "ok", f"{model.wheel} {model.version}, checked, in {package}"))
    return [*checks, Check("model cache", "info", str(cache_folder()))]


def _data() -> list[Check]:
    checks = []
    for name, use in _DATA_WHEELS.items():
        try:
            checks.append(Check(name, "ok", f"{importlib.metadata.version(name)}, for {use}"))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, "info", f"not installed, {use} needs it", "pip install 'fieldtune[builtin]'"))
    return checks


def _llm(llm: Llm) -> Check:
    """The key itself is never shown, nor is anything in the address that may be one."""
    key = f"{_KEY} is set" if os.environ.get(_KEY) else f"{_KEY} is not set"
    if not llm.base_url:
        return Check("LLM", "info", f"no endpoint in the config ({key}); queries are made without one")
    parts = urlsplit(llm.base_url)
    shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "") + parts.path
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=_SECONDS).close()
    except OSError as error:
        return Check("LLM", "problem", f"{shown} is not reachable ({error}); {key}", "start it, or mend llm.base_url")
    return Check("LLM", "ok", f"{shown} is reachable, model {llm.model or 'not named'}; {key}")


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
