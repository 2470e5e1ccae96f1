"""What the arena's tests share: models behind an endpoint that say what a test wants, piece by piece."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Says = Callable[[str, list[dict[str, Any]]], str | int]
"""(model, messages) -> its answer, or an HTTP status. "…" inside is a pause; "✂" ends the connection."""
SETTINGS: dict[str, Any] = {"temperature": 0.0, "max_tokens": 64, "key_from": "", "seconds": 30.0}


@contextmanager
def models(says: Says) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(address up to /v1, the bodies of all requests)."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            said = says(body["model"], body["messages"])
            if isinstance(said, int):
                self.send_error(said)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for piece in [said[i : i + 7] for i in range(0, len(said), 7)]:
                if "✂" in piece:
                    return
                if "…" in piece:
                    time.sleep(0.5)
                self._event({"choices": [{"delta": {"content": piece}, "finish_reason": None}]})
            self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, value: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            return

        def handle(self) -> None:
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):
                return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", asked
    finally:
        http.shutdown()
        http.server_close()
