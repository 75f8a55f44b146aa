"""Questions that a text itself asks, in a heading or at the head of a paragraph, and then answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.lexical import STOP_WORDS, tokenize
from fieldtune.queries.wording import Language, Sentence, Title

_LATIN = re.compile(
    r"^(?:what|how|why|when|where|who|which|whom|whose|is|are|can|could|do|does|did|will|would|should|may|must|has|have)\b",
    re.I,
)
_HAN = re.compile("什么|如何|怎么|怎样|为何|是否|能否|可否|哪|吗|多少|多久|几|谁|呢|有无|能不能|可不可以|是不是|要不要")
_LEANS = re.compile(
    r"\b(?:this|these|those|it|they|he|she|such|here|above|below)\b|^(?:and|but|or)\b|这|那|该|其|上述|本", re.I
)


def asked_questions(
    sentences: list[Sentence], title: Title, language: Language
) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """(question, where it stands in the text); None for one in the title.

    One that does not name its subject gets the document's name.
    """
    if is_question(title.caption, language):
        yield _whole(title.caption, title, language), None
    for position, sentence in enumerate(sentences):
        text = " ".join(sentence.text.split())
        follows = position + 1 < len(sentences)
        if follows and is_question(text, language) and not is_question(sentences[position + 1].text, language):
            length = len(text) / 2 if language == "zh" else len(text.split())
            if 3 <= length <= 30:
                yield _whole(text, title, language), (sentence.start, sentence.end)


def is_question(text: str, language: Language) -> bool:
    text = text.strip()
    if not text.endswith(("?", "？")):
        return False
    return bool(_HAN.search(text) if language == "zh" else _LATIN.match(text))


def _whole(question: str, title: Title, language: Language) -> str:
    """The question with the name of what it is about, where it says only "it"."""
    question = re.sub(r"\bi\b", "I", question.capitalize()) if question.isupper() else question
    document = title.document
    if not document or len(document) > 80:
        return question
    own = {token for token in tokenize(question) if token not in STOP_WORDS}
    if own & set(tokenize(document)) or (not _LEANS.search(question) and len(own) >= 4):
        return question
    return f"{document}：{question}" if language == "zh" else f"{document}: {question}"
