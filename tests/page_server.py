"""A server for tests of the chat page: the page's files behind a strict policy, and answers known beforehand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PAGE = Path(__file__).parents[1] / "src/luhuo/serve/page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Piece = Mapping[str, Any] | float
"""A delta, or seconds to wait before the next one."""


def tokens(messages: list[dict[str, Any]]) -> int:
    """The stand-in's tokenizer: a token per character and four per message."""
    return sum(len(message["content"] or "") + 4 for message in messages)


class PageServer(ThreadingHTTPServer):
    """Serves the page; `answer(model, messages)` gives pieces, `requests` keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = {"furnace-small": 4096, "furnace-large": 32768}
        self.requests: list[tuple[str, Any]] = []
        self.refusals: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.key: str | None = None
        self.feedback = True
        self.cut = False
        self.down = False
        self.gone = 0
        self.finish = "stop"
        self.answers: dict[str, Sequence[Piece] | str] = {}

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def asked(self, path: str) -> list[Any]:
        """Bodies that were posted to a path."""
        return [body for where, body in self.requests if where == path]

    def answer(self, model: str, messages: list[dict[str, Any]]) -> Sequence[Piece]:
        """The pieces of the answer to the last message: a known one, or an echo."""
        last = messages[-1]["content"]
        known = self.answers.get(f"{model}:{last}", self.answers.get(last, f"{model} heard: {last}"))
        if isinstance(known, str):
            return [{"content": known[at : at + 7]} for at in range(0, len(known), 7)]
        return known

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that closes a connection is no error."""

    def __enter__(self) -> PageServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Tests have no log."""

    def parse_request(self) -> bool:
        """A server that is down hangs up without a word."""
        self.close_connection = self.server.down
        return not self.server.down and super().parse_request()

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", headers)

    def _error(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, {"error": {"message": message, "type": "error", "param": None, "code": code}}, headers)

    def _locked(self) -> bool:
        key = self.server.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        self._error(401, "a key is needed", "invalid_api_key")
        return True

    def do_GET(self) -> None:
        """Files, models, what the page may offer."""
        path = urlsplit(self.path).path
        if path == "/page/config":
            self._json(200, {"version": "0.1.0", "models": [], "feedback": self.server.feedback})
        elif path == "/v1/models":
            if not self._locked():
                listed = [
                    {"id": name, "object": "model", "max_model_len": n} for name, n in self.server.models.items()
                ]
                self._json(200, {"object": "list", "data": listed})
        else:
            file = (PAGE / (path.lstrip("/") or "index.html")).resolve()
            if file.is_relative_to(PAGE) and file.suffix in TYPES and file.is_file():
                self._send(200, file.read_bytes(), TYPES[file.suffix])
            else:
                self._error(404, f"there is nothing at {path}", "not_found")

    def do_POST(self) -> None:
        """Chat, tokens, feedback."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        if self._locked():
            return
        if self.path == "/feedback":
            self._json(201, {"status": "kept"})
        elif self.path == "/tokenize":
            self._json(200, {"count": tokens(body["messages"]), "tokens": []})
        elif self.server.refusals:
            status, error, headers = self.server.refusals.pop(0)
            self._json(status, {"error": error}, headers)
        else:
            self._stream(body)

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        written = 0
        try:
            for piece in self.server.answer(body["model"], body["messages"]):
                if isinstance(piece, float):
                    time.sleep(piece)
                    continue
                written += 1
                self._event({"choices": [{"index": 0, "delta": piece, "finish_reason": None}]})
            if self.server.cut:
                return
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": self.server.finish}]})
            used = {"prompt_tokens": tokens(body["messages"]), "completion_tokens": written}
            self._event({"choices": [], "usage": used})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.gone += 1

    def _event(self, value: Any) -> None:
        self.wfile.write(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")
        self.wfile.flush()
