"""Small databases in the form of the packaged one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

LAWS = "law_id TEXT PRIMARY KEY, law_name TEXT, version_date TEXT, status TEXT"
ARTICLES = (
    "id INTEGER PRIMARY KEY, law_id TEXT, law_name TEXT, status TEXT, chapter TEXT, section TEXT, article_no TEXT, "
    "article_text TEXT"
)


def database(
    path: Path,
    laws: list[tuple[str, str, str, str]],
    articles: list[tuple[str, str | None, str | None, str, str | None]],
) -> Path:
    """`laws`: id, name, date, status; `articles`: law id, chapter, section, number, text."""
    known = {law: (name, status) for law, name, _, status in laws}
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE laws ({LAWS})")
        connection.execute(f"CREATE TABLE articles ({ARTICLES})")
        connection.executemany("INSERT INTO laws VALUES (?, ?, ?, ?)", laws)
        rows = [(law, *known[law], chapter, section, no, text) for law, chapter, section, no, text in articles]
        connection.executemany(
            "INSERT INTO articles (law_id, law_name, status, chapter, section, article_no, article_text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    connection.close()
    return path
