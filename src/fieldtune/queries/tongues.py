"""Which language a short text is in, as far as its script and its smallest words tell."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import regex

# The script of a text without Latin letters says enough for telling it from its passage.
_SCRIPTS = {
    "ja": regex.compile(r"[\p{Hiragana}\p{Katakana}]"),
    "ko": regex.compile(r"\p{Hangul}"),
    "zh": regex.compile(r"\p{Han}"),
    "ru": regex.compile(r"\p{Cyrillic}"),
    "el": regex.compile(r"\p{Greek}"),
    "ar": regex.compile(r"\p{Arabic}"),
    "he": regex.compile(r"\p{Hebrew}"),
    "th": regex.compile(r"\p{Thai}"),
    "hi": regex.compile(r"\p{Devanagari}"),
}
_LATIN = regex.compile(r"\p{Latin}")
_WORD = regex.compile(r"\p{Latin}+")
# Words without a subject of their own, those of questions among them. One that two languages share counts for both.
_SMALL = {
    "en": "the of and to is are was were what which who whom how why when where does do did can could may must "
    "should shall will would for with from by an this that these those it its my your their his her our there "
    "be been has have had not or at as if than about between during under after before into any",
    "de": "der die das den dem des ein eine einer eines einem einen und oder ist sind war waren wird werden wurde "
    "was wer wie wann wo warum welche welcher welches welchen kann muss darf soll hat haben für mit von vom "
    "zu zum zur bei nach aus auf über unter zwischen nicht sich ich mein meine wir sie es wenn dass im am als "
    "auch",
    "fr": "le la les un une des du de et ou est sont était sera que qui quoi quel quelle quels quelles comment "
    "pourquoi quand où combien peut doit dans pour par avec sur sous entre sans aux au ce cette ces mon ma "
    "mes son sa ses il elle ils elles je nous vous ne pas en",
    "es": "el la los las un una unos unas de del y o es son era fue que qué quién cuál cuáles cómo cuándo dónde "
    "cuánto cuánta puede debe para por con sin sobre entre en al se su sus mi mis lo no como más si está "
    "están hay",
    "it": "il lo la gli le un una uno di del della dei delle dello degli e o è sono era che chi quale quali come "
    "quando dove perché quanto può deve per con su nel nella nei tra fra da dal dalla al alla ai non si il "
    "mio mia",
    "pt": "o a os as um uma de do da dos das e ou é são era foi que quem qual quais como quando onde quanto pode "
    "deve para por com sem sobre entre em no na nos nas ao à se seu sua meu minha não mais está",
    "nl": "de het een en of is zijn was waren wordt worden wat wie hoe wanneer waar waarom welke welk kan moet mag "
    "heeft hebben voor met van naar bij uit op over onder tussen niet ik mijn we ze als dat die deze dit",
    "sv": "en ett och eller är var vad vem hur när varför vilken vilka kan måste får har för med av till från på i "
    "om under mellan inte jag min mitt det den de som att",
    "da": "en et og eller er var hvad hvem hvordan hvornår hvor hvorfor hvilken hvilke kan skal må har for med af "
    "til fra på om under mellem ikke jeg min mit det den de som at",
    "pl": "i lub jest są był co kto jak kiedy gdzie dlaczego jaki jaka jakie który która które może musi dla z ze "
    "od do na w we o po przy przez się nie czy to ten ta",
    "cs": "a nebo je jsou byl co kdo jak kdy kde proč jaký jaká jaké který která které může musí pro z ze od do na "
    "v ve o po při se ne to ten ta",
    "tr": "ve veya bir bu ne nasıl neden nerede kim hangi kaç mı mi mu mü için ile gibi daha olan olarak değil var "
    "yok",
    "id": "yang dan atau adalah apa siapa bagaimana mengapa kapan dimana di ke dari untuk dengan pada dalam tidak "
    "ini itu bisa dapat harus saya",
    "vi": "là và hoặc của có không được cho với từ trong khi nào gì ai sao như thế tôi này các những một",
}  # fmt: skip
_HOLDERS: dict[str, tuple[str, ...]] = {
    word: tuple(name for name, words in _SMALL.items() if word in words.split())
    for words in _SMALL.values()
    for word in words.split()
}


@lru_cache(maxsize=1 << 12)
def tongue(text: str) -> str:
    """The code of the text's language, or "" where it does not show, as in names, codes and a few bare terms.

    A language in Latin letters shows by its function words: two of them at least, and half as many again as any other
    language has in the text.
    """
    text = text[:2_000]
    latin = len(_LATIN.findall(text))
    counts = {name: len(letters.findall(text)) for name, letters in _SCRIPTS.items()}
    if counts["ja"] > 0.05 * (latin + sum(counts.values())):
        return "ja"
    script = max(counts, key=lambda name: counts[name])
    # Chinese text is full of Latin names and units; a Chinese character says more than a letter.
    if counts[script] and counts[script] * (3 if script == "zh" else 1) > latin:
        return script
    found = Counter(name for word in _WORD.findall(text.lower()) for name in _HOLDERS.get(word, ()))
    (best, most), (_, next_most) = [*found.most_common(2), ("", 0), ("", 0)][:2]
    return best if most >= 2 and most >= 1.5 * next_most else ""
