"""A chat client over plain sockets: what it costs is to be little beside the server it measures on the same cores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit


class Refused(Exception):
    """The server answered with an error, or broke off."""


class Client:
    """One connection that is kept for all requests, to an address such as http://127.0.0.1:8000/v1."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self._address, self._path = (parts.hostname, parts.port), parts.path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def chat(self, **body: Any) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a streamed chat completion. Raises `Refused`."""
        reader, writer = self._streams or await asyncio.open_connection(*self._address)
        self._streams = None  # until the answer was read to its end
        content = json.dumps(body | {"stream": True}).encode()
        head = f"POST {self._path}/chat/completions HTTP/1.1\r\nHost: {self._address[0]}:{self._address[1]}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if " 200 " not in answer.partition("\r\n")[0] or "transfer-encoding: chunked" not in answer:
                raise Refused(answer)
            async for data in _events(reader):
                if data != b"[DONE]":
                    yield json.loads(data)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Refused(str(error)) from error
        self._streams = reader, writer

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The data of events in a body that comes in chunks."""
    rest = b""
    while size := int(await reader.readline(), 16):
        *events, rest = (rest + (await reader.readexactly(size + 2))[:-2]).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                yield event[6:]
    await reader.readline()
