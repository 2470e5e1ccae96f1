"""Damaged documents of every kind end in records and reasons, never in an error, and never take much memory."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from luhuo.files.readers import read_file
from luhuo.files.records import Broken, Record
from tests.document_cases import docx, epub, paragraph, pdf, response, tarred, warc_record, zipped

PAGE = b"<html><body><main><p>" + b"The furnace burns pure blue. " * 20 + b"</p></main></body></html>"


def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["炉火", "fire"] * 50}), out)
    return out.getvalue()


WIKI = "<mediawiki>" + "".join(
    f"<page><title>{n}</title><ns>0</ns><id>{n}</id><revision><text>'''a''' {{{{b|c}}}} [[d|e]]</text></revision>"
    "</page>"
    for n in range(5)
) + "</mediawiki>"  # fmt: skip

SAMPLES = {
    "a.pdf": lambda: pdf([["第一页的文字", "goes on"], ["second page"]]),
    "a.docx": lambda: docx(paragraph("标题", "2") + "<w:tbl><w:tr><w:tc>" + paragraph("x") + "</w:tc></w:tr></w:tbl>"),
    "a.epub": lambda: epub(["<p>one</p>", "<p>two</p>"]),
    "a.warc": lambda: response(PAGE) + warc_record("conversion", "text/plain", b"text") + response(gzip.compress(PAGE),
        "Content-Type: text/html\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked"),
    "a.warc.gz": lambda: gzip.compress(response(PAGE)) + gzip.compress(response(PAGE)),
    "a.xml": lambda: WIKI.encode(),
    "a.xml.bz2": lambda: bz2.compress(WIKI.encode()),
    "a.html": lambda: PAGE,
    "a.py": lambda: b"def f(x):\n    return x\n" * 20,
    "a.zip": lambda: zipped({"a.txt": "text", "b/c.jsonl": '{"text": "x"}\n', "d.pdf": pdf([["inside"]])}),
    "a.tar": lambda: tarred({"a.txt": b"text", "b/c.jsonl": b'{"text": "x"}\n', "d.docx": docx(paragraph("x"))}),
    "a.tar.zst": lambda: zstandard.compress(tarred({"a.txt": b"text" * 99, "e.zip": zipped({"f.md": "# x"})})),
    "a.jsonl": lambda: b'{"text": "one", "messages": [{"content": "x"}]}\n' * 9,
    "a.csv": lambda: "id,text\n1,炉火\n2,\"a \"\"b\"\"\"\n".encode("gb18030"),
    "a.parquet": parquet,
    "a.ipynb": lambda: json.dumps({"cells": [{"cell_type": "code", "source": ["x = 1\n"]}], "metadata": {}}).encode(),
}  # fmt: skip


def hurt(data: bytes, rng: random.Random) -> bytes:
    """The data cut, with bytes changed, taken out, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and out:
            out[place % len(out)] = rng.randrange(256)
        elif kind == 1:
            del out[place : place + rng.randrange(1, 40)]
        elif kind == 2:
            out[place:place] = rng.randbytes(rng.randrange(1, 20))
        elif kind == 3:
            out[place:place] = out[place : place + rng.randrange(1, 200)]
        elif rng.random() < 0.3:
            del out[place:]
    return bytes(out)


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_never_ends_in_an_error(tmp_path: Path, name: str):
    rng = random.Random(name)
    data = SAMPLES[name]()
    path = tmp_path / name
    for round_ in range(60):
        path.write_bytes(hurt(data, rng))
        tracemalloc.start()
        found = list(
            read_file(path, encoding=rng.choice(("auto", "utf-8")), text_field=rng.choice(("text", "messages")))
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found or name in ("a.csv", "a.warc"), round_  # a head without rows, records of other kinds
        assert peak < 60e6, round_
        for one in found:
            assert isinstance(one, (Record, Broken))
            json.dumps([one.file, one.line]).encode()
            (one.text if isinstance(one, Record) else one.excerpt + one.reason).encode()


@pytest.mark.parametrize("name", SAMPLES)
def test_whole_samples_give_records(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(SAMPLES[name]())
    assert any(isinstance(one, Record) for one in read_file(path, encoding="auto"))
