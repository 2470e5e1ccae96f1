"""Web archives (WARC 1.0 and 1.1, ISO 28500), plain or compressed: the pages of responses, the texts of conversions.

Responses other than 200 and content that is no text are passed over. A record that is damaged is reported, and the
reading goes on at the next one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from luhuo.files.blobs import Blob
from luhuo.files.encodings import AUTO
from luhuo.files.html import decode, page
from luhuo.files.records import UNIT_BYTES, Broken, Record, broken, record

LINE_BYTES = 2**16
HEADER_LINES = 500
CHUNK = 2**20

HTML = ("text/html", "application/xhtml+xml")
PLAIN = "text/plain"
KINDS = ("response", "conversion", "resource")


class _Damaged(ValueError):
    """A record is not as the standard says."""


def read_warc(blob: Blob, encoding: str) -> Iterator[Record | Broken]:
    """The texts, with `url` and `date` in the fields. A record's line is the number of the WARC record."""
    number = 0
    with blob.open() as raw:
        while True:
            headers, strange = _next(raw)
            if strange and number:
                yield broken(blob.name, number, "bad_warc", strange)
            if headers is None:
                break
            number += 1
            try:
                payload = _payload(raw, headers)
                if payload is None:
                    yield broken(blob.name, number, "page_too_long", headers.get("warc-target-uri", ""))
                elif headers.get("warc-type") in KINDS:
                    yield from _text(headers, payload, blob.name, number, encoding)
            except _Damaged as error:
                yield broken(blob.name, number, "bad_warc", error)
    if number == 0:
        yield broken(blob.name, 0, "bad_warc" if blob.path is None or blob.path.stat().st_size else "empty")


def _next(raw: BinaryIO) -> tuple[dict[str, str] | None, bytes]:
    """The headers of the next record, wherever it begins (None at the end), and the first line that was passed over
    on the way and is not empty."""
    strange = b""
    while line := raw.readline(LINE_BYTES):
        if line.startswith(b"WARC/1."):
            return _headers(raw), strange
        strange = strange or line.strip()[:200]
    return None, strange


def _headers(raw: BinaryIO) -> dict[str, str]:
    """Header lines up to an empty one, names in lower case."""
    headers: dict[str, str] = {}
    for _ in range(HEADER_LINES):
        line = raw.readline(LINE_BYTES)
        if not line.strip():
            break
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _payload(raw: BinaryIO, headers: dict[str, str]) -> bytes | None:
    """The block of a record; None, and passed over, where it is too long or of no kind that holds text."""
    try:
        length = int(headers.get("content-length", ""))
    except ValueError:
        raise _Damaged("no Content-Length") from None
    if length < 0:
        raise _Damaged(f"Content-Length: {length}")
    wanted = headers.get("warc-type") in KINDS
    kept = wanted and length <= UNIT_BYTES
    pieces, left = [], length
    while left > 0 and (block := raw.read(min(CHUNK, left))):
        left -= len(block)
        if kept:
            pieces.append(block)
    if kept and left:
        raise _Damaged(f"{length} bytes announced, {length - left} there")
    return b"".join(pieces) if kept or not wanted else None


def _text(headers: dict[str, str], payload: bytes, name: str, number: int, encoding: str) -> Iterator[Record | Broken]:
    fields: dict[str, Any] = {"url": headers.get("warc-target-uri", "").strip("<>"), "date": headers.get("warc-date")}
    kind, told = _media(headers.get("content-type", ""))
    if headers.get("warc-type") == "response":
        if kind != "application/http":
            return
        status, http, body = _http(payload)
        if status != 200:
            return
        kind, told = _media(http.get("content-type", ""))
        if kind not in (*HTML, PLAIN):
            return
        body = _unchunked(body) if "chunked" in http.get("transfer-encoding", "").lower() else body
        unpacked = _inflated(body, http.get("content-encoding", "").lower())
        if unpacked is None:
            yield broken(name, number, "unknown_compression", http.get("content-encoding"))
            return
        payload = unpacked
    if kind in HTML:
        yield page(payload, name, number, encoding, fields, told)
    elif kind == PLAIN:
        try:
            text = decode(payload, told) if encoding.lower() == AUTO else payload.decode(encoding)
        except UnicodeDecodeError as error:
            yield broken(name, number, "bad_encoding", error)
        else:
            yield record(text, name, number, fields)


def _media(value: str) -> tuple[str, str | None]:
    """(type, charset) of a Content-Type."""
    kind, _, rest = value.partition(";")
    _, found, charset = rest.lower().partition("charset=")
    return kind.strip().lower(), charset.split(";")[0].strip(" \"'") if found else None


def _http(payload: bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of an HTTP response (RFC 9112)."""
    end = payload.find(b"\r\n\r\n")
    skip = 4
    if end < 0:
        end, skip = payload.find(b"\n\n"), 2
    if end < 0:
        raise _Damaged("no end of the HTTP headers")
    first, *rest = payload[:end].decode("latin-1").splitlines() or [""]
    parts = first.split()
    if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
        raise _Damaged(f"not an HTTP response: {first[:60]}")
    headers = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(parts[1]), headers, payload[end + skip :]


def _unchunked(body: bytes) -> bytes:
    """A body in chunks put together (RFC 9112, section 7.1); itself if it is not in chunks after all."""
    pieces, place = [], 0
    while True:
        end = body.find(b"\r\n", place, place + 1024)
        try:
            size = int(body[place:end].split(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            size = -1
        if size < 0 or size > len(body):
            return b"".join(pieces) if pieces else body
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + size])
        place = end + 2 + size + 2


def _inflated(body: bytes, coding: str) -> bytes | None:
    """A compressed body unpacked; itself where it is plain or was unpacked before it was archived; None where the
    compression is not known."""
    if coding in ("", "identity", "none"):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        return None
    if coding.endswith("gzip") and not body.startswith(b"\x1f\x8b"):
        return body
    for window in (47, -15):  # gzip and zlib with a header, then a bare stream
        machine = zlib.decompressobj(window)
        try:
            text = machine.decompress(body, UNIT_BYTES)
        except zlib.error:
            continue
        if machine.unconsumed_tail:
            raise _Damaged("it unpacks to too much")
        return text
    raise _Damaged("damaged compression")
