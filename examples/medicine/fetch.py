"""Write ICD-10-CM as passages and its inclusion terms as labelled queries, from the package simple-icd-10-cm."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fieldtune.demo import prepare_medicine
from fieldtune.errors import FieldtuneError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--to", type=Path, default=Path(__file__).parent / "data", help="the folder to write")
    return made


def main(words: list[str] | None = None) -> None:
    to = parser().parse_args(words).to
    try:
        prepare_medicine(to)
    except FieldtuneError as error:
        sys.exit(f"error: {error.message}\n  {error.hint}")
    print(f"wrote {to / 'source'}; next: fieldtune run fieldtune.toml")


if __name__ == "__main__":
    main()
