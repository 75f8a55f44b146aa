"""A tiny run with an index, and one real server on loopback for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_cases import serving, write_run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    return write_run(tmp_path_factory.mktemp("served") / "run", tiny_model)


@pytest.fixture(scope="module")
def served(tiny_run: Path) -> Iterator[tuple[str, Any]]:
    with serving(tiny_run, name="tiny", request_seconds=300) as found:
        yield found


@pytest.fixture
def client(served: tuple[str, Any]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served[0], timeout=300) as made:
        yield made
