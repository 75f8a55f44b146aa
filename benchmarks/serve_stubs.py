"""What a service is run with where no real LLM and no real reranker are at hand: both small, both on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SAID = ("It stands in the ", "first passage [1]. ", "Nothing says <b>7,777</b> [9].")
"""What the stub answers to every question: a sentence that may be supported, and one that is not."""


@contextmanager
def stub_llm() -> Iterator[str]:
    """The address of an OpenAI-compatible endpoint on loopback that streams `SAID`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for text in (*SAID, ""):
                    choice = {"index": 0, "delta": {"content": text} if text else {},
                              "finish_reason": None if text else "stop"}  # fmt: skip
                    row = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
                           "choices": [choice]}  # fmt: skip
                    self.wfile.write(b"data: " + json.dumps(row).encode() + b"\n\n")
                    self.wfile.flush()
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def tiny_reranker(folder: Path, model: Path) -> str:
    """Write a cross-encoder of one layer with weights drawn by lot and a model's tokenizer; returns the folder."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(str(model))
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=128, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CrossEncoder(str(folder), device="cpu", max_length=128).save_pretrained(str(folder))
    return str(folder)
