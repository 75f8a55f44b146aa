"""A real server on loopback that answers as its script says: well, badly, or not at all."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], str]


def completion(text: str) -> str:
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    )


def refusal(message: str, code: str = "") -> str:
    return json.dumps({"error": {"message": message, "type": code or "error", "code": code or None}})


class Endpoint:
    """`script(number, body)` answers the number-th request (from 0); a None answer cuts the connection."""

    def __init__(self, script: Callable[[int, dict], Answer | None]) -> None:
        self.requests: list[dict] = []
        self.keys: set[str] = set()
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.paid = 0
        self.paid_for: list[str] = []
        lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(endpoint.requests)
                    endpoint.requests.append(body)
                    endpoint.times.append(time.monotonic())
                    endpoint.keys.add(self.headers["Authorization"])
                    endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
                answer = script(number, body)
                if answer is None:
                    self.connection.close()
                    return
                status, headers, text = answer
                with lock:
                    endpoint.paid += status == 200
                    if status == 200:
                        endpoint.paid_for.append(json.dumps(body["messages"]))
                data = text.encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:  # a script that names one cuts the body off
                    self.send_header("Content-Length", str(len(data)))
                with contextlib.suppress(OSError):  # who asked did not wait for it
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
