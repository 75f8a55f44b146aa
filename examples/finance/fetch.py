"""Fetch annual reports (10-K) from the SEC's EDGAR, one HTML file per report; what is there is not fetched again."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Central index key and year in which the report's business year ended.
FILINGS = {
    "3M": (66740, 2022),
    "Boeing": (12927, 2022),
    "Coca-Cola": (21344, 2022),
    "Microsoft": (789019, 2023),
    "PepsiCo": (77476, 2022),
    "Walmart": (104169, 2023),
}
INDEX = "https://data.sec.gov/submissions"
ARCHIVE = "https://www.sec.gov/Archives/edgar/data"
PAUSE = 0.2  # seconds between requests; the SEC allows ten a second

Read = Callable[[str], bytes]


class FetchError(Exception):
    """What went wrong, with the cure."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument(
        "--user-agent", default="", help='your name and address, as the SEC asks: "Name name@example.org"'
    )
    made.add_argument("--to", type=Path, default=Path(__file__).parent / "data" / "filings", help="the folder to write")
    made.add_argument(
        "--filing", action="append", metavar="CIK:YEAR", help="in place of the list below; may be repeated"
    )
    made.add_argument("--list", action="store_true", help="print the list of reports and end")
    return made


def main(words: list[str] | None = None, read: Read | None = None) -> None:
    given = parser().parse_args(words)
    if given.list:
        for name, (key, year) in FILINGS.items():
            print(f"{name}: --filing {key}:{year}")
        return
    try:
        wanted = list(FILINGS.values()) if given.filing is None else [filing(text) for text in given.filing]
        if "@" not in given.user_agent:
            raise FetchError('the SEC wants to know who asks: --user-agent "Your Name you@example.org"')
        for key, year in wanted:
            print(fetch(key, year, given.to, read or reader(given.user_agent)))
    except FetchError as error:
        sys.exit(f"error: {error}")
    print(f"next: fieldtune run {Path(__file__).parent / 'fieldtune.toml'}")


def filing(text: str) -> tuple[int, int]:
    key, _, year = text.partition(":")
    if not (key.isdecimal() and year.isdecimal() and len(year) == 4):
        raise FetchError(f"--filing {text} is not of the form CIK:YEAR, such as 320193:2023")
    return int(key), int(year)


def fetch(key: int, year: int, to: Path, read: Read) -> Path:
    """The file of the company's 10-K for the business year that ended in `year`."""
    there = sorted(to.glob(f"{key}-*-{year}-10-K.htm"))
    if there:
        return there[0]
    company = as_json(read, f"{INDEX}/CIK{key:010d}.json")
    name = "-".join("".join(mark if mark.isalnum() else " " for mark in company["name"]).split())
    for row in filed(company, read):
        if row["form"] == "10-K" and row["reportDate"].startswith(str(year)):
            folder = row["accessionNumber"].replace("-", "")
            report = read(f"{ARCHIVE}/{key}/{folder}/{row['primaryDocument']}")
            to.mkdir(parents=True, exist_ok=True)
            path = to / f"{key}-{name}-{year}-10-K.htm"
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(report)
            unfinished.replace(path)
            return path
    raise FetchError(f"{company['name']} (CIK {key}) has no 10-K for a business year that ended in {year}")


def filed(company: dict[str, Any], read: Read) -> Iterator[dict[str, str]]:
    """All that the company filed, newest first; older pages are fetched only when they are reached."""
    yield from rows(company["filings"]["recent"])
    for page in company["filings"]["files"]:
        yield from rows(as_json(read, f"{INDEX}/{page['name']}"))


def rows(table: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """EDGAR keeps a list per column."""
    names = ("form", "reportDate", "accessionNumber", "primaryDocument")
    for values in zip(*(table[name] for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def as_json(read: Read, url: str) -> Any:
    try:
        return json.loads(read(url))
    except ValueError:
        raise FetchError(
            f"{url} did not answer with JSON; something between here and the SEC may answer for it"
        ) from None


def reader(user_agent: str) -> Read:
    """Reads an address, under the name that the SEC asks for and not faster than it allows."""

    def read(url: str) -> bytes:
        time.sleep(PAUSE)
        asked = urllib.request.Request(url, headers={"User-Agent": user_agent, "Accept-Encoding": "gzip"})
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                body: bytes = answer.read()
                return gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
        except urllib.error.HTTPError as error:
            cure = {
                403: "give your real name and address as --user-agent, and try again in ten minutes",
                404: "check the central index key",
                429: "too many requests: try again in ten minutes",
            }.get(error.code, "try again later")
            raise FetchError(f"{url} answered {error.code} {error.reason}; {cure}") from None
        except OSError as error:
            why = getattr(error, "reason", error)
            raise FetchError(
                f"{url} cannot be reached ({why}); this example needs the internet. Without it, put annual reports of "
                "your own (PDF or HTML) into data/filings"
            ) from None

    return read


if __name__ == "__main__":
    main()
