"""Queries that obey a document instead of asking about it: what a passage tells a model to say, it must not get."""

from __future__ import annotations

import re
from collections.abc import Sequence

import regex

from fieldtune.corpus.shingling import words
from fieldtune.types import Passage

OBEYED = "holds an address, or what its passage tells a model to say"
_ADDRESS = regex.compile(
    r"https?://|\bwww\.|[\w.+-]+@[\w-]+\.\w{2,}"
    r"|\b[\w-]{2,}\.(?:com|net|org|io|info|biz|xyz|top|site|online|shop|example|cn|ru)\b(?!\.\w)",
    regex.I,
)
# What is said to a model that reads along, and hardly ever to the people a document is for.
_ORDER = regex.compile(
    r"\b(?:ignor|disregard|forget|overrid)\w*\b.{0,40}"
    r"\b(?:instruct\w+|prompts?|previous|prior|above|everything (?:you|before)|(?:your|these) rules)\b"
    r"|\bsystem prompt\b|\b(?:new|real|actual) (?:task|instructions?)\s*[:：]|^\s*(?:system|assistant|user)\s*[:：]"
    r"|\byou are (?:now |no longer )?an? .{0,20}\b(?:AI|assistant|model|pirate|bot|chatbot)\b|\byou are now\b"
    r"|\b(?:language model|AI assistant|chatbot|LLM)s?\b.{0,60}\b(?:must|should|shall|please|output|answer|say|write)\b"
    r"|\b(?:output|print|say|answer|respond|reply|write|return)"
    r"\s+(?:only|just|exactly|nothing but|with (?:only|the (?:word|text|phrase|sentence)))\b"
    r"|\b(?:write|generate|make|output)\s+(?:\w+\s+){0,3}(?:queries|search queries)\b"
    r"|\b(?:each|every|all) quer(?:y|ies)\b"
    r'|"queries"\s*:'
    r"|忽略.{0,12}(?:指令|指示|规则|提示|以上|之前|上面)|系统提示|新任务\s*[:：]|你现在是|你是一个?(?:AI|人工智能|助手|机器人)"
    r"|(?:只|仅|直接)(?:需|能|可以|要)?(?:输出|回答|回复|写)|(?:每个|所有|全部)(?:查询|问题)都?(?:必须|要|应)",
    regex.I | regex.M,
)
_SENTENCE_END = regex.compile(r"(?<=[.!?。！？])\s*(?=\S)|\n")
_COMMON = frozenset(
    re.split(
        " ",
        "a an the of to in on at for and or is are be was were do does did can may must i you he she it we they my your"
        " what which who whom when where why how if not no with from by as that this have has had will would should"
        " 的 了 是 在 有 和 与 或 吗 呢 么 什 怎 如 何 我 你 他 谁 哪 不 可 以 能 要",
    )
)
_FOLLOWING = 2
"""Sentences after an order that still belong to it."""


def is_obeyed(text: str, passages: Sequence[Passage]) -> bool:
    """Whether a query carries an address, or mostly says what its passages say in an order to a model alone."""
    if _ADDRESS.search(text):
        return True
    asked = _terms(text)
    for passage in passages:
        ordered, rest = _divided(passage.content)
        if ordered and len(asked & (ordered - rest)) > len(asked & rest):
            return True
    return False


def _divided(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words of orders to a model with what follows them, and those of all other sentences."""
    if not _ORDER.search(text):
        return frozenset(), frozenset()
    ordered: list[str] = []
    rest: list[str] = []
    left = 0
    for sentence in filter(str.strip, _SENTENCE_END.split(text)):
        left = _FOLLOWING + 1 if _ORDER.search(sentence) else left
        (ordered if left > 0 else rest).append(sentence)
        left -= 1
    return _terms("\n".join(ordered)), _terms("\n".join(rest))


def _terms(text: str) -> frozenset[str]:
    return frozenset(words(text)) - _COMMON
