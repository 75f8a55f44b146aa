"""The page over HTTP: what it shows, what it never lets through, and who may see it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import string
from collections.abc import Iterator
from dataclasses import astuple, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from page_cases import CHINESE, EVIL, write_page_run
from selectolax.lexbor import LexborHTMLParser as HTMLParser
from serving_cases import serving

from fieldtune.serving.library import Search
from fieldtune.serving.page import __doc__ as about_page
from fieldtune.serving.page.filters import Field, where_from, with_named
from fieldtune.serving.page.rendering import local_path
from fieldtune.serving.page.shown import answer_html, with_sentence
from fieldtune.serving.page.words import EN, ZH, language_of
from fieldtune.serving.shapes import AnswerAnswer, Sentence


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    return write_page_run(tmp_path_factory.mktemp("paged") / "run", tiny_model)


@pytest.fixture(scope="module")
def page(run: Path) -> Iterator[httpx.Client]:
    with serving(run, name="tiny") as (address, _), httpx.Client(base_url=address, timeout=30) as made:
        yield made


def tree(page: httpx.Client, address: str, status: int = 200, **headers: str) -> HTMLParser:
    found = page.get(address, headers=headers)
    assert found.status_code == status, found.text
    assert found.headers["content-type"].startswith("text/html")
    return HTMLParser(found.text)


def texts(found: HTMLParser, selector: str) -> list[str]:
    return [" ".join(node.text().split()) for node in found.css(selector)]


ADDRESSES = ("/", "/?q=landlord+eviction+tenant&mode=words", "/ask?q=landlord+eviction+tenant", "/compare?q=landlord",
             "/passage?id=evil&q=eviction", "/passage?id=zh-1", "/?q=a&mode=nothing")  # fmt: skip


@pytest.mark.parametrize("address", [*ADDRESSES, f"/?q={EVIL}", f"/ask?q={EVIL}&f.source={EVIL}", f"/compare?q={EVIL}"])
def test_texts_are_escaped_and_the_policy_is_kept(page: httpx.Client, address: str) -> None:
    answer = page.get(address)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'" and policy["form-action"] == "'self'"
    found = HTMLParser(answer.text)
    assert [node.attributes["src"] for node in found.css("script")] == ["/static/htmx.min.js", "/static/page.js"]
    assert not found.css("style, iframe, object, base, main img")
    for node in found.css("*"):
        assert not [name for name in node.attributes if name.startswith("on") or name == "style"], node.html
        for name in ("src", "href", "action", "hx-get", "hx-post", "formaction"):
            target = node.attributes.get(name)
            assert target is None or target[:1] in "/?#", f"{name}={target}"
    assert "49" not in texts(found, "title")[0], "a template in a text is not run"


def test_a_harmful_passage_is_shown_as_it_is_written(page: httpx.Client) -> None:
    found = tree(page, "/?q=landlord+eviction+tenant&mode=words")
    text = next(one for one in texts(found, ".hit .text") if "alert(1)" in one)
    assert EVIL in text
    found = tree(page, "/passage?id=evil&q=eviction")
    assert EVIL in texts(found, ".piece.own")[0] and EVIL in texts(found, "h1")[0]
    assert EVIL in texts(found, ".metadata dt") and EVIL in texts(found, ".metadata dd")


def test_results_have_marks_places_and_reasons(page: httpx.Client) -> None:
    found = tree(page, "/?q=notice+tenant+7&mode=hybrid")
    assert len(found.css(".hit")) == 10
    assert {"tenant", "Notice"} <= set(texts(found, ".hit mark"))
    assert re.search(r"doc-\d\.pdf · page \d", texts(found, ".hit .meta")[0])
    why = texts(found, ".hit .why dl")[0]
    assert re.search(r"Meaning -?0\.\d{3} rank \d+", why) and re.search(r"Words \d+\.\d rank \d+", why)
    assert "Shared words" in why and "Notice" in why
    more = found.css_first(".more a").attributes["href"]
    assert len(tree(page, more).css(".hit")) == 20
    assert "The first 10 results" in texts(found, ".count")[0]


def test_text_that_runs_from_right_to_left_turns_nothing_around_but_itself(page: httpx.Client) -> None:
    found = tree(page, "/?q=landlord+\u202eeviction+\u05d0\u05d1\u05d2")
    assert found.css_first("#q").attributes["dir"] == "auto"
    assert found.css(".hit .text") and all(one.attributes.get("dir") == "auto" for one in found.css(".hit .text, h3 a"))
    assert [one.text() for one in found.css(".hit .meta bdi")] == [
        one.text().split(" · ")[0] for one in found.css(".hit .meta > span")
    ]
    assert tree(page, "/passage?id=evil").css_first(".piece.own").attributes["dir"] == "auto"


def test_htmx_gets_the_results_alone_and_history_the_whole_page(page: httpx.Client) -> None:
    part = page.get("/?q=lease", headers={"HX-Request": "true"})
    assert "<html" not in part.text and 'hx-swap-oob="true"' in part.text and part.text.count('class="hit"') == 10
    whole = page.get("/?q=lease", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert "<html" in whole.text and "HX-Request" in whole.headers["vary"]


def test_filters_limit_and_are_remembered(page: httpx.Client) -> None:
    found = tree(page, "/?q=notice+tenant&f.source=doc-1.pdf&f.page.from=2&f.page.to=4")
    places = texts(found, ".hit .meta span")
    assert places and all(
        re.match(r"doc-1\.pdf · page [234]$", one.split(" Why")[0]) for one in places[::2] if "·" in one
    )
    assert found.css_first('select[name="f.source"] option[selected]').text() == "doc-1.pdf"
    assert found.css_first('input[name="f.page.from"]').attributes["value"] == "2"
    assert texts(found, ".badge") == ["2"]
    gone = tree(page, "/?q=notice&f.source=gone.pdf")  # as in an address from before a rebuild
    assert "Nothing found" in texts(gone, ".count")[0]
    assert gone.css_first('select[name="f.source"] option[selected]').text() == "gone.pdf"
    assert set(texts(found, "select option")) >= {"doc-0.pdf", "租赁合同.docx", "any"}
    nothing = tree(page, "/?q=notice&f.page.from=99")
    assert "Nothing found" in texts(nothing, ".count")[0]
    wrong = tree(page, "/?q=notice&f.page.from=seven", 400)
    assert "'seven' is no number" in texts(wrong, ".problem")[0]
    assert len(tree(page, "/?q=notice&unknown=2").css(".hit")) == 10
    # As in an address from before a rebuild: what it was limited to must not be left out in silence.
    for gone in ("f.judge=Li", "f.signed.by.from=2"):
        said = texts(tree(page, f"/?q=notice&{gone}", 400), ".problem")[0]
        assert "there is no such column; there are: source," in said


def test_an_address_limits_by_a_column_in_which_all_passages_became_alike() -> None:
    class Alike:
        columns: ClassVar = {"source": "text", "page": "number", "signed": "date"}

        def values(self, column: str) -> list[str]:
            return {"source": ["b.pdf"], "page": ["3", "3"], "signed": ["2024-01-01", "2025-01-01"]}[column]

    index: Any = Alike()
    form = {"q": "x", "f.source": "a.pdf", "f.page.from": "7"}
    usual = [Field("signed", "date", ())]
    offered = with_named(usual, form, index)
    assert [field.column for field in offered] == ["signed", "source", "page"]
    assert where_from(form, offered, index) == {"source": "a.pdf", "page": {"from": 7.0}}
    assert with_named(usual, {"q": "x"}, index) == tuple(usual)


def test_a_passage_stands_in_its_document_without_what_neighbours_share(page: httpx.Client) -> None:
    found = tree(page, "/passage?id=zh-1&q=书面通知")
    assert texts(found, ".piece") == [f"The passage: {CHINESE}", "押金应当退还。"]
    assert "书面通知" in "".join(texts(found, ".piece.own mark"))
    assert found.css_first(".piece.own").attributes["lang"] == "zh"
    assert texts(found, ".pagebreak") == ["page 2"]
    assert not found.css(".wider"), "the document has no more"
    narrow = tree(page, "/passage?id=zh-1&n=0")
    assert texts(narrow, ".wider") == ["↑ Earlier", "↓ Later"] and len(narrow.css(".piece")) == 1
    assert "not in the index" in texts(tree(page, "/passage?id=../../etc/passwd", 404), ".problem")[0]


def test_base_against_tuned_shows_where_each_passage_went(page: httpx.Client) -> None:
    known = "when must notice 45 be given for " + "fever"
    asked = next(one for one in texts(tree(page, "/compare"), ".examples a"))
    found = tree(page, f"/compare?q={asked}")
    assert [len(side.css("li")) for side in found.css(".versus section")] == [10, 10]
    assert "0.400 → 0.600" in texts(found, ".pair")[0].replace("→", " → ").replace("  ", " ")
    assert "+0.100 to +0.300" in texts(found, ".interval")[0]
    tuned = [node.attributes["data-id"] for node in found.css(".versus .right li")]
    base = [node.attributes["data-id"] for node in found.css(".versus .left li")]
    moves = texts(found, ".versus .right .move")
    for rank, (one, move) in enumerate(zip(tuned, moves, strict=True), 1):
        if one in base:
            away = base.index(one) + 1 - rank
            assert ("same" in move) if not away else (f"▲{away}" in move if away > 0 else f"▼{-away}" in move)
    assert "The right passage" in texts(found, ".outcome")[0], known


def test_answers_without_a_model_mark_the_closest_sentence(page: httpx.Client) -> None:
    found = tree(page, "/ask?q=when+must+notice+7+be+given")
    assert "No LLM is configured" in texts(found, ".answer")[0] or "Not found" in texts(found, ".answer")[0]
    assert found.css(".hit .sentence") and texts(found, ".number")[:2] == ["1", "2"]


def test_where_the_model_fails_the_passages_are_there_all_the_same(run: Path) -> None:
    llm = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "max_retries": 0}
    with serving(run, llm=llm) as (address, service), httpx.Client(base_url=address, timeout=60) as made:
        service.library.volume = replace(service.volume, threshold=None)
        answer = made.get("/ask?q=when+must+notice+7+be+given&whole=1")
        assert answer.status_code == 200
        found = HTMLParser(answer.text)
        assert "LLM" in texts(found, ".answer .note")[0] and len(found.css(".hit")) == 6


def test_an_answer_s_citations_are_links_and_what_nothing_supports_is_marked() -> None:
    text = "The <b>notice</b> is due [1, 3]. It rains [9]."
    why = "cites [9], which does not exist"
    sentences = [
        Sentence(start=0, end=32, citations=[1, 3], supported=True, reason=""),
        Sentence(start=33, end=46, citations=[9], supported=False, reason=why),
    ]
    empty: dict[str, Any] = {"found": True, "by": "llm", "note": "", "supported": False}
    answer = AnswerAnswer(answer=text, sentences=sentences, passages=[], **empty).model_copy(
        update={"passages": [None] * 3}
    )
    html = answer_html(answer, "not supported: {why}")
    assert "<b>" not in html and '[<a class="cite" href="#p1">1</a>, <a class="cite" href="#p3">3</a>]' in html
    assert '<span class="unsupported" title="not supported: cites [9], which' in html and "#p9" not in html


def test_the_sentence_is_marked_and_the_rest_is_whole() -> None:
    text = "Rent is <due>. The tenant gives notice in March. It ends."
    html = with_sentence(text, "tenant notice")
    assert '<b class="sentence">The <mark>tenant</mark> gives <mark>notice</mark> in March.</b>' in html
    assert HTMLParser(f"<p>{html}</p>").css_first("p").text() == text


@pytest.mark.parametrize(
    ("chosen", "kept", "accepted", "expected"),
    [("", "", "zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("", "", "en;q=0.5, zh-TW", "zh"), ("", "", "fr, de", "en"),
     ("", "zh", "en", "zh"), ("en", "zh", "zh", "en"), ("xx", "yy", "zh;q=broken", "en"), ("", "", "", "en")],
)  # fmt: skip
def test_the_language_is_the_reader_s(chosen: str, kept: str, accepted: str, expected: str) -> None:
    assert language_of(chosen, kept, accepted) == expected


def test_both_languages_say_everything_with_the_same_figures() -> None:
    for field, english, chinese in zip(fields(EN), astuple(EN), astuple(ZH), strict=True):
        slots = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, chinese)]
        assert english and chinese and slots[0] == slots[1], field.name


def test_the_interface_turns_chinese_and_stays_so(page: httpx.Client) -> None:
    found = tree(page, "/?q=通知&mode=words", **{"Accept-Language": "zh-CN"})
    assert found.css_first("html").attributes["lang"] == "zh-CN" and "搜索" in texts(found, "#tabs")[0]
    assert texts(found, ".hit mark") and found.css_first(".hit .text").attributes["lang"] == "zh"
    chosen = page.get("/?lang=zh")
    cookie = chosen.headers["set-cookie"]
    assert "fieldtune_lang=zh" in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert "边输入边出结果" in page.get("/", cookies={"fieldtune_lang": "zh"}).text
    page.cookies.clear()


def test_the_report_is_shut_in(page: httpx.Client) -> None:
    report = page.get("/report")
    assert "The report" in report.text
    policy = report.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and policy.endswith("sandbox") and "script-src" not in policy


def test_static_files_are_those_of_the_list(page: httpx.Client) -> None:
    first = page.get("/static/style.css")
    assert first.headers["content-type"].startswith("text/css")
    assert page.get("/static/style.css", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    for name in ("nothing.js", "..%2f__init__.py", "%2e%2e/__init__.py", "page.html.j2"):
        assert page.get(f"/static/{name}").status_code == 404


def test_htmx_is_the_file_that_it_is_said_to_be() -> None:
    content = resources.files("fieldtune.serving.page").joinpath("static", "htmx.min.js").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert digest == "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
    assert about_page is not None and digest in about_page and b"version:" in content and b'"2.0.11"' in content


@pytest.mark.parametrize(
    ("given", "expected"),
    [("/compare?q=a", "/compare?q=a"), ("//evil.example/", "/"), ("https://evil.example/", "/"), ("/\\evil", "/"),
     ("javascript:alert(1)", "/"), ("/v1/search", "/"), ("/signin?next=/", "/"), ("", "/")],
)  # fmt: skip
def test_signing_in_goes_on_to_pages_of_ours_alone(given: str, expected: str) -> None:
    assert local_path(given, frozenset({"/", "/compare", "/signin"})) == expected


def test_no_page_where_it_is_turned_off(run: Path) -> None:
    with serving(run, page=False) as (address, _), httpx.Client(base_url=address) as made:
        assert [made.get(path).status_code for path in ("/", "/compare", "/static/page.js", "/report")] == [404] * 4
        assert made.get("/label").json()["error"]["message"]


def test_with_keys_the_page_wants_one_and_remembers_it_in_a_cookie(run: Path, tmp_path: Path) -> None:
    from fieldtune.serving.keys import new_key

    file = tmp_path / "keys.jsonl"
    key = new_key(file, "legal")
    with serving(run, keys=str(file), labels=True) as (address, _), httpx.Client(base_url=address) as made:
        away = made.get("/compare?q=lease")
        assert away.status_code == 303 and away.headers["location"] == "/signin?next=%2Fcompare%3Fq%3Dlease"
        assert made.get("/static/style.css").status_code == 200
        part = made.get("/?q=a", headers={"HX-Request": "true"})
        assert part.status_code == 401 and part.headers["hx-redirect"] == "/signin"
        assert "lease" not in made.get("/signin").text
        here = {"Origin": address}
        form = {"key": "ft-wrong", "next": "/compare?q=lease"}
        wrong = made.post("/signin", data=form, headers=here)
        assert wrong.status_code == 401 and "not valid" in wrong.text and "set-cookie" not in wrong.headers
        form["key"] = key
        assert made.post("/signin", data=form, headers={"Origin": "http://evil.example"}).status_code == 403
        assert made.post("/signin", data=form).status_code == 403
        entered = made.post("/signin", data=form, headers=here)
        assert entered.status_code == 303 and entered.headers["location"] == "/compare?q=lease"
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and key not in cookie and "Secure" not in cookie
        assert made.get("/compare?q=lease").status_code == 200
        # The cookie is good for pages alone: another site cannot use the API through a browser.
        assert made.post("/v1/search", json={"query": "lease"}).status_code == 401
        assert made.get("/metrics").status_code == 401
        said = made.post("/label", data={"q": "lease", "id": "p1", "said": "right", "by": "someone else"}, headers=here)
        assert said.status_code == 303 and "legal" in made.get("/labels").text
        secure = made.post("/signin", data=form, headers={**here, "X-Forwarded-Proto": "https"})
        assert "Secure" in secure.headers["set-cookie"]
        assert made.post("/signout", headers=here).status_code == 303
        assert made.get("/").status_code == 303


def test_withdrawing_a_key_ends_its_sessions_and_time_does() -> None:
    from fieldtune.serving.keys import hash_of
    from fieldtune.serving.sessions import COOKIE, SECONDS, Sessions

    class Ring:
        def __init__(self) -> None:
            self.known = {hash_of("k"): "team"}

        def owner(self, key: str) -> str | None:
            return self.owner_of_hash(hash_of(key))

        def owner_of_hash(self, digits: str) -> str | None:
            return self.known.get(digits)

    now = [0.0]
    ring: Any = Ring()
    sessions = Sessions(ring, clock=lambda: now[0])
    assert sessions.begin("other") is None
    token = sessions.begin("k")
    header = f"a=b; {COOKIE}={token}"
    assert sessions.owner(header) == "team" and sessions.owner(f"{COOKIE}=x") is None and sessions.owner("") is None
    now[0] = SECONDS + 1
    assert sessions.owner(header) is None
    header = f"{COOKIE}={sessions.begin('k')}"
    assert sessions.owner(header) == "team"
    ring.known.clear()
    assert sessions.owner(header) is None


def test_with_the_index_gone_pages_not_opened_before_say_so(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    # Nobody looks at the index meanwhile, so the page itself is the first to meet the loss.
    with (
        serving(other, refresh_seconds=3600) as (address, service),
        httpx.Client(base_url=address, timeout=30) as made,
    ):
        shutil.rmtree(other / "index")
        for path in ("/", "/ask?q=landlord", "/compare?q=landlord&f.source=doc-1.pdf"):
            assert "index cannot be read" in tree(made, path, 503).text()
        assert not service.library.fault
        where = {"source": ["doc-1.pdf"]}
        # What is open already goes on answering, filters included.
        (hits,) = service.library.search_base(Search(3, "dense", json.dumps(where), ""), ["landlord"])
        assert hits and {hit.passage.source for hit in hits} == {"doc-1.pdf"}
