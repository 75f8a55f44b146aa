"""An LLM on loopback that streams what a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Teller:
    """Streams what its script says: text, a pause in seconds, a file to wait for (30 s), or None to hang up."""

    def __init__(self) -> None:
        self.script: list[str | float | Path | None] = []
        self.asked: list[dict[str, Any]] = []
        teller = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                teller.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for step in teller.script:
                        if step is None:
                            self.connection.shutdown(socket.SHUT_RDWR)
                            return
                        if isinstance(step, Path):
                            end = time.monotonic() + 30
                            while not step.exists() and time.monotonic() < end:
                                time.sleep(0.02)
                            continue
                        if isinstance(step, float):
                            time.sleep(step)
                            continue
                        self.chunk({"content": step}, None)
                    self.chunk({}, "stop")
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    pass

            def chunk(self, delta: dict[str, str], reason: str | None) -> None:
                choice = {"index": 0, "delta": delta, "finish_reason": reason}
                row = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
                self.wfile.write(b"data: " + json.dumps(row).encode() + b"\n\n")
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
