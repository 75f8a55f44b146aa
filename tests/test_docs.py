from __future__ import annotations

from pathlib import Path

import pytest
from scripts import script

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", ["cli.md", "config.md"])
def test_the_pages_say_what_the_code_does(name: str) -> None:
    made = script("docs/make.py")
    assert (DOCS / name).read_text("utf-8") == made.PAGES[name](), "run: python docs/make.py"
