"""A full disk is an error with a cure, also where files are mapped into memory."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldtune.disk import mapped_array
from fieldtune.encoding import Encoder, cached_vectors, keep_vectors
from fieldtune.errors import ModelError
from fieldtune.index.dense import write_codes

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_room_is_reserved_when_a_file_is_made_and_when_it_is_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    mapped_array(path, np.float32, (1_000, 256))[:3] = 7
    assert path.stat().st_blocks * 512 >= 1_024_000
    whole = path.read_bytes()
    again = mapped_array(path, np.float32, (1_000, 256), resume=True)
    assert again[:4, 0].tolist() == [7, 7, 7, 0] and path.read_bytes() == whole


def test_a_full_disk_is_said_and_nothing_new_is_left(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    vectors = np.eye(3, encoder.dimension, dtype=np.float32)
    mapped_array(tmp_path / "begun.npy", np.float32, (3, 4))
    monkeypatch.setattr(os, "posix_fallocate", full)
    texts = ["rent", "lease", "tenant"]
    for name, write in {
        "v": lambda: cached_vectors(encoder, texts, "passage", tmp_path / "v"),
        "k": lambda: keep_vectors(encoder, texts, "passage", tmp_path / "k", vectors),
        "": lambda: write_codes(tmp_path, "c", vectors, 4),
    }.items():
        with pytest.raises(ModelError, match=r"the disk is full: .*\.npy could not be written to") as caught:
            write()
        assert str(tmp_path / name) in caught.value.message and "make room" in caught.value.hint
    with pytest.raises(ModelError, match="disk is full"):
        mapped_array(tmp_path / "begun.npy", np.float32, (3, 4), resume=True)
    assert [path.name for path in tmp_path.rglob("*.npy")] == ["begun.npy"]  # what was written before stays


def test_a_file_system_that_reserves_nothing_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    mapped_array(tmp_path / "a.npy", np.int8, (2, 2))[:] = 1
    assert np.load(tmp_path / "a.npy").sum() == 4


def test_a_disk_of_a_megabyte_kills_no_process(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    inside = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*inside, '"$@"', "sh", *mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system of its own can be made here")
    write = (
        "import pathlib, sys, numpy as np; from fieldtune.index.dense import write_codes;"
        f"write_codes(pathlib.Path({str(tmp_path)!r}), 'c', np.ones((40_000, 64), np.float32), 64)"
    )
    both = '"$1" "$2" "$3" "$4" "$5" "$6" "$7" && exec "$8" -c "$9"'
    ended = subprocess.run([*inside, both, "sh", *mount, sys.executable, write], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "ModelError: the disk is full: c-codes.npy could not be written to" in ended.stderr
