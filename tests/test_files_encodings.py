"""Telling encodings: real Chinese text written each way, short texts, marks, wrong marks, and reading with "auto"."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import random
from pathlib import Path

import pytest

from luhuo.core.artifact import produce
from luhuo.corpus.factory.stages import AnnotateStage
from luhuo.files.encodings import detect
from luhuo.files.readers import read_records
from luhuo.files.records import Record

DATA = Path(os.environ.get("LUHUO_TEST_DATA", "/nowhere"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="LUHUO_TEST_DATA names no folder with the real texts")

SIMPLIFIED = "炉火纯青，是说学问到了很高的境界。"
TRADITIONAL = "爐火純青，是說學問到了很高的境界。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (SIMPLIFIED, "gb18030"), (SIMPLIFIED, "gbk"), (SIMPLIFIED, "utf-8"), (SIMPLIFIED, "utf-8-sig"),
        (SIMPLIFIED, "utf-16"), (SIMPLIFIED, "utf-16-le"), (SIMPLIFIED, "utf-16-be"), (SIMPLIFIED, "utf-32-le"),
        (TRADITIONAL, "big5"), (TRADITIONAL, "gb18030"), (TRADITIONAL, "utf-16-be"),
        ("你好", "gbk"), ("你好", "big5"), ("中文", "gbk"), ("Name: 张伟\nAge: 5\n", "gbk"),
        ("これは日本語の文章です。", "shift_jis"), ("これは日本語の文章です。", "euc_jp"),
        ("日本語のテスト", "iso2022_jp"),
        ("안녕하세요, 이것은 한국어 문장입니다.", "euc_kr"), ("Привет, это русский текст для проверки", "cp1251"),
        ("Le café est déjà fermé, où êtes-vous ?", "latin-1"), ("Müller trägt schöne Grüße", "cp1252"),
        ("It’s “quoted” — fine…", "cp1252"), ("plain ASCII", "ascii"), ("", "utf-8"),
    ],
)  # fmt: skip
def test_short_texts_are_told(text, encoding):
    data = text.encode(encoding)
    assert data.decode(detect(data)) == text


@needs_data
@pytest.mark.parametrize(
    ("name", "encoding", "shares"),
    [
        # Right of 300 pieces of 4, 8, 16 and 50 characters, and of whole paragraphs.
        ("cmrc", "gb18030", (0.97, 0.985, 0.99, 1, 1)),
        ("cmrc", "utf-8", (1, 1, 1, 1, 1)),
        ("cmrc", "utf-16-le", (0.94, 0.98, 0.99, 1, 1)),
        ("cmrc", "utf-16-be", (0.94, 0.98, 0.99, 1, 1)),
        ("drcd", "big5", (0.97, 0.99, 0.99, 1, 1)),
        ("drcd", "utf-16-le", (0.94, 0.98, 0.99, 1, 1)),
    ],
)
def test_real_texts_are_told_from_a_few_characters_on(name, encoding, shares):
    with gzip.open(DATA / f"zh_wiki_qa/{name}_corpus.jsonl.gz", "rt", encoding="utf-8") as handle:
        texts = [json.loads(line)["text"] for line, _ in zip(handle, range(300), strict=False)]
    rng = random.Random(0)
    for length, share in zip((4, 8, 16, 50, 10_000), shares, strict=True):
        right = asked = 0
        for text in texts:
            start = rng.randrange(max(1, len(text) - length))
            try:
                data = text[start : start + length].encode(encoding)
            except UnicodeEncodeError:
                continue  # a character that the encoding does not have
            if not data.isascii() or "16" in encoding:
                asked += 1
                right += _reads(data, detect(data), encoding)
        assert asked > 200
        assert right >= share * asked, (length, right, asked)


def _reads(data: bytes, found: str, encoding: str) -> bool:
    try:
        return data.decode(found) == data.decode(encoding)
    except UnicodeDecodeError:
        return False


def test_the_beginning_of_a_file_may_end_within_a_character():
    data = (SIMPLIFIED * 50).encode()
    for cut in range(100, 110):
        assert detect(data[:cut], whole=False) == "utf-8"
        assert detect((SIMPLIFIED * 50).encode("gbk")[:cut], whole=False) == "gb18030"


def test_a_little_damage_does_not_change_the_answer():
    data = (SIMPLIFIED * 50).encode()
    assert detect(data[:300] + b"\xff\xfe" + data[300:]) == "utf-8"
    wrong = (SIMPLIFIED * 50).encode("gbk")
    assert detect(wrong[:300] + b"\xff" + wrong[300:]) == "gb18030"


@pytest.mark.parametrize(
    "data", [bytes(range(256)) * 8, b"\x00" * 999, b"\xff" * 999, random.Random(1).randbytes(4000)]
)
def test_what_is_no_text_gets_some_answer_that_can_be_looked_up(data):
    codecs.lookup(detect(data))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "big5", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "json"])
def test_files_are_read_in_whatever_they_are_written_in(tmp_path, encoding, kind):
    text = TRADITIONAL if encoding == "big5" else SIMPLIFIED
    content = {
        "txt": text,
        "jsonl": json.dumps({"text": text}, ensure_ascii=False) + "\n",
        "csv": f"id,text\n1,{text}\n",
        "json": json.dumps([{"text": text}], ensure_ascii=False),
    }[kind]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content.encode(encoding))
    (record,) = read_records(path, encoding="auto")
    assert isinstance(record, Record)
    assert record.text == text


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16", "utf-16-le"])
def test_a_large_file_is_divided_only_where_its_lines_can_be_told(tmp_path, encoding):
    rows = [{"text": f"第{n}行：{SIMPLIFIED}\u0a0a"} for n in range(200)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_bytes(text.encode(encoding))
    sources = [{"name": "a", "path": str(tmp_path / "a.jsonl")}]
    stage = AnnotateStage.parse({"sources": sources, "signals": [], "unit_mb": 0.004})
    done = produce("annotate", stage, tmp_path / "out")
    assert done.manifest["metrics"]["records"] == 200
    assert (len(list((done.path / "records").glob("*.zst"))) > 1) == ("16" not in encoding)
