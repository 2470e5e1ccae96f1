"""A stand-in for model hubs on 127.0.0.1: the routes that clients call, over real HTTP, with switches for failures."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 5_000
"""Files from this size on are kept in large-file storage: another address, reached by a redirect."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Hub:
    """What the server offers and how it misbehaves."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """"models/OWNER/NAME" or "datasets/OWNER/NAME" -> path -> content."""
    drop_after: list[int] = field(default_factory=list)
    """The next bodies of large files are cut off after so many bytes, one entry a request."""
    status: int | None = None
    """Every request is answered with this code."""
    file_status: int | None = None
    """The next request for the content of a large file is answered with this code."""
    ranges: bool = True
    """False: the header `Range` is ignored and the whole file sent."""
    token: str | None = None
    """Only requests with this token are served."""
    corrupt: bool = False
    """Large files come with one byte changed, at the same size."""
    validators: bool = True
    """False: no ETag on large files."""
    listed: int | None = None
    """ModelScope's lists are cut off at this many entries."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0
    """Bytes of large files that were sent."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commit(self, repository: str) -> str:
        """A commit hash that changes with the content."""
        files = self.repositories[repository]
        return hashlib.sha1("".join(f"{k}{sha256(v)}" for k, v in sorted(files.items())).encode()).hexdigest()

    def large(self) -> dict[str, bytes]:
        return {sha256(data): data for files in self.repositories.values() for data in files.values()}

    def asked(self, part: str) -> list[dict[str, str]]:
        """The headers of the GET requests whose address holds `part`."""
        return [headers for method, path, headers in self.requests if method == "GET" and part in path]


class Handler(BaseHTTPRequestHandler):
    """Answers as the hubs do."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path, dict(self.headers.items())))
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        if hub.status is not None:
            return self.plain(hub.status, {"error": "switched off"})
        if path.startswith("/lfs/"):
            return self.large_file(hub.large()[path.removeprefix("/lfs/")])
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.plain(401, {"error": "Invalid credentials"}, {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/v1/"):
            return self.modelscope(path.removeprefix("/api/v1/"), query)
        if path.startswith("/api/"):
            return self.huggingface(path.removeprefix("/api/"))
        return self.resolve(path.strip("/"))

    def plain(self, code: int, value: Any = None, headers: dict[str, str] | None = None) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.answer(code, body, {"Content-Type": "application/json", **(headers or {})})

    def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def huggingface(self, path: str) -> None:
        """`KIND/OWNER/NAME[/revision/R]` and `KIND/OWNER/NAME/tree/COMMIT`."""
        kind, owner, name, *rest = [*path.split("/"), "", ""]
        rest = [part for part in rest if part]
        repository = f"{kind}/{owner}/{name}"
        files = self.hub.repositories.get(repository)
        if files is None:
            return self.plain(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if rest[:1] == ["revision"] and rest[1] not in ("main", self.hub.commit(repository)):
            return self.plain(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        if rest[:1] == ["tree"]:
            return self.plain(200, [self.tree_entry(path, data) for path, data in files.items()])
        names = [{"rfilename": path} for path in files]
        identity = {"id": f"{owner}/{name}", "modelId": f"{owner}/{name}", "private": False, "tags": []}
        return self.plain(200, identity | {"sha": self.hub.commit(repository), "siblings": names, "downloads": 0})

    @staticmethod
    def tree_entry(path: str, data: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        large = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
        return entry | ({"lfs": large} if len(data) >= LARGE else {})

    def resolve(self, path: str) -> None:
        """`[datasets/]OWNER/NAME/resolve/COMMIT/PATH`: small files here, large ones by a redirect to another host."""
        kind = "datasets" if path.startswith("datasets/") else "models"
        owner, name, _, _, *inner = path.removeprefix("datasets/").split("/")
        repository = f"{kind}/{owner}/{name}"
        data = self.hub.repositories.get(repository, {}).get("/".join(inner))
        if data is None:
            return self.plain(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": self.hub.commit(repository), "Accept-Ranges": "bytes"}
        if len(data) < LARGE:
            return self.answer(200, data, headers | {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'})
        linked = {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
        return self.answer(302, b"", headers | linked | {"Location": self.elsewhere(data)})

    def elsewhere(self, data: bytes) -> str:
        return f"http://localhost:{self.hub.port}/lfs/{sha256(data)}"

    def large_file(self, data: bytes) -> None:
        """The content, whole or the range that is asked for, or as much of it as the switches let through."""
        hub = self.hub
        if hub.file_status is not None:
            code, hub.file_status = hub.file_status, None
            return self.plain(code, {"error": "storage"})
        tag = f'"{sha256(data)}"'
        body = data[:-1] + bytes([data[-1] ^ 1]) if hub.corrupt else data
        start = 0
        asked = self.headers.get("Range", "")
        if hub.ranges and asked.startswith("bytes=") and self.headers.get("If-Range", tag) == tag:
            start = int(asked.removeprefix("bytes=").split("-")[0])
        if start >= len(body):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        part = body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(part)))
        if hub.validators:
            self.send_header("ETag", tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "HEAD":
            return None
        if hub.drop_after:
            part = part[: hub.drop_after.pop(0)]
            self.close_connection = True
        hub.sent += len(part)
        self.wfile.write(part)
        self.wfile.flush()
        if self.close_connection:
            self.connection.close()
        return None

    def modelscope(self, path: str, query: dict[str, list[str]]) -> None:
        """`KIND/OWNER/NAME/repo/files`, `…/repo/tree` and `…/repo?FilePath=`."""
        kind, owner, name, *call = [*path.split("/"), "", ""]
        files = self.hub.repositories.get(f"{kind}/{owner}/{name}")
        call = [part for part in call if part]
        if files is None or query.get("Revision", ["master"])[0] not in ("master", "v1"):
            return self.plain(404, {"Code": 10010205001, "Success": False, "Message": "not found", "Data": None})
        if call == ["repo"]:
            data = files.get(query["FilePath"][0])
            if data is None:
                return self.plain(404, {"Code": 404, "Success": False, "Message": "no file", "Data": None})
            if len(data) < LARGE:
                return self.answer(200, data, {})
            return self.answer(302, b"", {"Location": self.elsewhere(data)})
        rows = self.rows(files, query.get("Root", [""])[0].strip("/"), query["Recursive"] == ["True"])
        if call == ["repo", "tree"]:
            number, size = int(query["PageNumber"][0]), int(query["PageSize"][0])
            rows = rows[(number - 1) * size : number * size]
        elif self.hub.listed is not None:
            rows = rows[: self.hub.listed]
        return self.plain(200, {"Code": 200, "Success": True, "Message": "success", "Data": {"Files": rows}})

    @staticmethod
    def rows(files: dict[str, bytes], root: str, recursive: bool) -> list[dict[str, Any]]:
        rows = {}
        for path, data in sorted(files.items()):
            if root and not path.startswith(f"{root}/"):
                continue
            below = path.removeprefix(f"{root}/") if root else path
            parts = below.split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(([root] if root else []) + parts[:depth])
                if recursive or depth == 1:
                    rows[folder] = {"Path": folder, "Name": parts[depth - 1], "Type": "tree", "Size": 0}
            if recursive or len(parts) == 1:
                entry = {"Path": path, "Name": parts[-1], "Type": "blob", "Size": len(data), "Sha256": sha256(data)}
                rows[path] = entry | {"Revision": sha256(data)[:40]}
        return list(rows.values())


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the hub on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
