"""A run that the page has something to show of, with texts that mean harm; and a browser driven through a pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from serving_cases import tiny_passages, write_run

from fieldtune.types import Passage

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
CHINESE = "承租人应当在期限届满前三个月书面通知出租人。通知应当以挂号信送达。"


def page_passages() -> list[Passage]:
    extra = [
        Passage("evil", f"Deed > {EVIL}", f"landlord tenant {EVIL} eviction.", EVIL, f"{EVIL}.pdf", 3,
                metadata={EVIL: EVIL, "signed": "2024-03-01"}),
        Passage("zh-1", "租赁合同 > 第十二条", CHINESE, "租赁合同", "租赁合同.docx", 1, 0, len(CHINESE),
                {"signed": "2023-05-01"}),
        Passage("zh-2", "租赁合同 > 第十三条", "挂号信送达。押金应当退还。", "租赁合同", "租赁合同.docx", 2,
                len(CHINESE) - 6, len(CHINESE) + 7, {"signed": "2023-05-01"}),
    ]  # fmt: skip
    return [*tiny_passages(), *extra]


def write_page_run(run: Path, model: str) -> Path:
    """With a base model's vectors, a report and figures."""
    from fieldtune.config import Index
    from fieldtune.encoding import Encoder
    from fieldtune.index import build_index
    from fieldtune.index.build import Base
    from fieldtune.models import resolve_model

    write_run(run, model)
    shutil.rmtree(run / "index")
    other = shutil.copytree(model, run / "before")
    (other / "README.md").write_text("The base model.", "utf-8")
    passages = page_passages()
    vectors = Encoder.load(str(run / "model")).encode([one.content for one in passages], "passage")
    # The base knows the same words, and has all passages in another place: its rankings differ.
    base = Base(vectors[::-1].copy(), str(other), resolve_model(str(other)).fingerprint)
    fingerprint = resolve_model(str(run / "model")).fingerprint
    build_index(Index(), passages, vectors, run / "index", model_fingerprint=fingerprint, model=run / "model", seed=1,
                base=base)  # fmt: skip
    rows = [{"_id": one.id, "title": one.title, "text": one.text} for one in passages]
    (run / "data" / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = (run / "data" / "qrels" / "dev.tsv").read_text().split("\n")
    (run / "data" / "qrels" / "dev.tsv").write_text("\n".join(judged[:31]) + "\n")
    (run / "data" / "qrels" / "test.tsv").write_text("\n".join([judged[0], *judged[31:]]))
    scores = {"ndcg@10": 0.4, "accuracy@1": 0.25}
    metrics = {
        "systems": {"base": scores, "tuned": {"ndcg@10": 0.6, "accuracy@1": 0.5}},
        "comparisons": [{"a": "tuned", "b": "base", "metric": "ndcg@10", "ci": [0.1, 0.3]}],
        "queries": 30,
    }
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "report.html").write_text("<!doctype html><style>p{color:red}</style><p>The report</p>")
    return run


FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
         "--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # fmt: skip


class LeavingError(Exception):
    """The page was asked while it gave way to another."""


class Browser:
    """One tab of a browser, told what to do over a pipe (the DevTools protocol)."""

    def __init__(self, program: str, profile: Path, *flags: str) -> None:
        # Away from 3 and 4, which the browser reads from and writes to.
        theirs_in, self._in = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in os.pipe())
        self._out, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in os.pipe())

        def into_place() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        command = [program, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, preexec_fn=into_place, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        tab = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "navigated" in str(answer.get("error", "")):
                    raise LeavingError
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._out, 1 << 20)
            assert piece, "the browser has gone"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=url)
        self.until("document.readyState == 'complete' && location.href != 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = 30) -> Any:
        end = time.monotonic() + seconds
        found = None
        while not found:
            assert time.monotonic() < end, f"{script} did not come true"
            try:
                found = self.run(script)
            except LeavingError:  # for another page, of which it is asked next
                found = None
            time.sleep(0 if found else 0.03)
        return found

    def type(self, text: str) -> None:
        for mark in text:
            self.send("Input.dispatchKeyEvent", type="keyDown", text=mark, key=mark)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=mark)

    def press(self, key: str) -> None:
        code = {"Enter": 13, "ArrowDown": 40, "Escape": 27, "Tab": 9}.get(key, 0)
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path) -> bytes:
        image = base64.b64decode(self.send("Page.captureScreenshot")["data"])
        path.write_bytes(image)
        return image

    def complaints(self) -> list[str]:
        """What the browser has logged: scripts that fail, and all that the page's policy keeps out."""
        found = [one["params"]["entry"]["text"] for one in self.events if one.get("method") == "Log.entryAdded"]
        thrown = [str(one["params"]) for one in self.events if one.get("method") == "Runtime.exceptionThrown"]
        return [*found, *thrown]

    def requested(self) -> list[str]:
        sent = (one["params"]["request"]["url"] for one in self.events
                if one.get("method") == "Network.requestWillBeSent")  # fmt: skip
        return [url for url in sent if not url.startswith("data:")]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        os.close(self._in)
        os.close(self._out)
