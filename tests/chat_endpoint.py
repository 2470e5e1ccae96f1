"""A chat model behind an OpenAI-compatible endpoint on 127.0.0.1 that says what a test wants it to say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, Any]]
Says = Callable[[Messages], Any]
"""Messages -> text, (text, finish reason), a choice (dict), a status (int), or seconds of silence (float)."""


@contextmanager
def chat_endpoint(says: Says) -> Iterator[tuple[dict[str, Any], list[Messages]]]:
    """({"url", "model", "tries"} of the endpoint, the messages of every request so far)."""
    asked: list[Messages] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"])
            said = says(body["messages"])
            if isinstance(said, float):
                time.sleep(said)
                return
            status, answer = 200, {}
            if isinstance(said, int):
                status, answer = said, {"error": {"message": "refused"}}
            else:
                text, reason = said if isinstance(said, tuple) else (said, "stop")
                choice = said if isinstance(said, dict) else {"message": {"content": text}, "finish_reason": reason}
                answer = {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield {"url": f"http://127.0.0.1:{http.server_port}/v1", "model": "m", "tries": 1}, asked
    finally:
        http.shutdown()
        http.server_close()
