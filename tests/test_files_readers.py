"""Readers: every format, compressed or not; broken lines are reported, and large files are not loaded."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from luhuo.core.errors import LuhuoError
from luhuo.files import plain, structured
from luhuo.files.readers import read_records
from luhuo.files.records import Broken, Record


def texts(path, **options) -> list[str]:
    return [r.text for r in read_records(path, **options) if isinstance(r, Record)]


def reasons(path, **options) -> list[tuple[int, str]]:
    return [(r.line, r.reason) for r in read_records(path, **options) if isinstance(r, Broken)]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "炉火"}\n{"text": "fire", "lang": "en"}\n'),
        ("a.json", '[{"text": "炉火"}, {"text": "fire"}]'),
        ("b.json", '["炉火", "fire"]'),
        ("a.csv", 'id,text\n1,炉火\n2,"fire"\n'),
        ("a.tsv", "id\ttext\n1\t炉火\n2\tfire\n"),
    ],
)
def test_tables_of_every_kind_give_the_same_texts(tmp_path, name, content, packing):
    assert texts(write(tmp_path / (name + packing), content)) == ["炉火", "fire"]


def test_parquet_rows_are_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"body": ["炉火", "fire", None]}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", text_field="body") == ["炉火", "fire"]
    assert reasons(tmp_path / "a.parquet", text_field="body") == [(3, "not_text")]


def test_a_small_text_file_is_one_document(tmp_path):
    assert texts(write(tmp_path / "a.md", "# 炉火\r\n\r\nfire\n")) == ["# 炉火\n\nfire"]


def test_a_large_text_file_is_divided_at_blank_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "DOCUMENT_CHARS", 100)
    paragraphs = [f"paragraph {i} " + "x" * 20 for i in range(50)]
    found = texts(write(tmp_path / "a.txt", "\n\n".join(paragraphs)))
    assert len(found) > 10
    assert all(len(t) <= 101 for t in found)
    assert "".join(found).replace("\n", "") == "".join(paragraphs)


def test_a_large_text_file_is_not_loaded(tmp_path):
    path = tmp_path / "a.txt"
    with path.open("w") as handle:
        for _ in range(4000):
            handle.write("The furnace burns. " * 500 + "\n\n")
    assert path.stat().st_size > 35e6
    tracemalloc.start()
    count = sum(1 for _ in read_records(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 30
    assert peak < 12e6


def test_a_large_json_list_is_not_loaded(tmp_path):
    path = tmp_path / "a.json"
    with path.open("w") as handle:
        handle.write("[")
        for i in range(20_000):
            handle.write((",\n" if i else "") + json.dumps({"text": f"{i} " + "好" * 300}))
        handle.write("]")
    assert path.stat().st_size > 35e6
    tracemalloc.start()
    count = sum(1 for _ in read_records(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 15e6


def test_each_broken_line_is_reported_with_its_reason(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "good"}\n{"text": \n{"body": "x"}\n{"text": 5}\n\n{"text": "  "}\n'
        b'{"text": "\xff"}\n{"text": "\\ud800"}\n"plain"\n[1]\n'
    )
    assert texts(path) == ["good", "plain"]
    assert reasons(path) == [
        (2, "bad_json"),
        (3, "missing_field"),
        (4, "not_text"),
        (5, "empty"),
        (6, "empty"),
        (7, "bad_encoding"),
        (8, "bad_encoding"),
        (10, "missing_field"),
    ]
    for record in read_records(path):
        if isinstance(record, Broken):
            record.excerpt.encode()


def test_a_line_over_the_bound_is_broken_and_the_next_one_is_read(tmp_path, monkeypatch):
    from luhuo.files import streams

    monkeypatch.setattr(streams, "UNIT_BYTES", 1000)
    lines = ['{"text": "' + "x" * 5000 + '"}', '{"text": "after"}']
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert texts(path) == ["after"]
    assert reasons(path) == [(1, "line_too_long")]


def test_a_json_element_over_the_bound_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(structured, "UNIT_BYTES", 1000)
    monkeypatch.setattr(structured, "CHUNK", 100)
    path = write(tmp_path / "a.json", '["fine", "' + "x" * 5000 + '"]')
    assert texts(path) == ["fine"]
    assert reasons(path) == [(2, "element_too_long")]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_json_lists_are_read_whatever_the_size_of_the_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(structured, "CHUNK", chunk)
    values = ["炉火", {"text": 'a "b" [c] {d},'}, 12345, "fire\n"]
    rows = list(structured.read_rows(write(tmp_path / "a.json", " \n" + json.dumps(values, indent=1) + "\n")))
    assert [r.value for r in rows if isinstance(r, structured.Row)] == values


def test_a_cut_off_json_list_gives_what_is_there_and_a_broken_rest(tmp_path):
    path = write(tmp_path / "a.json", '["one", "two", "thr')
    assert texts(path) == ["one", "two"]
    assert reasons(path) == [(3, "bad_json")]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_cut_off_compressed_file_is_reported(tmp_path, name):
    path = write(tmp_path / name, "".join(json.dumps({"text": f"text {i * i}"}) + "\n" for i in range(5000)))
    path.write_bytes(path.read_bytes()[:-200])
    assert reasons(path)
    assert reasons(path)[-1][1] in ("bad_compression", "bad_json")


def test_csv_rows_of_the_wrong_width_are_broken(tmp_path):
    path = write(tmp_path / "a.csv", 'text,n\n"two\nlines",1\nonly one\nfine,2\n')
    assert texts(path) == ["two\nlines", "fine"]
    assert reasons(path) == [(4, "wrong_columns")]


def test_other_encodings_are_read_when_named(tmp_path):
    path = write(tmp_path / "a.txt", "炉火纯青", "gb18030")
    assert texts(path, encoding="gb18030") == ["炉火纯青"]
    assert reasons(path) == [(1, "bad_encoding")]
    assert texts(write(tmp_path / "b.txt", "\ufeff炉火")) == ["炉火"]


def test_fields_inside_objects_are_found(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"page": {"body": "炉火"}, "lang": "zh"}')
    (record,) = read_records(path, text_field="page.body")
    assert isinstance(record, Record)
    assert (record.text, record.fields["lang"]) == ("炉火", "zh")


def test_folders_are_read_in_order_and_unknown_files_are_reported(tmp_path):
    write(tmp_path / "b.txt", "two")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "z.txt", "one")
    write(tmp_path / "c.exe", "MZ")
    write(tmp_path / ".hidden.txt", "no")
    assert texts(tmp_path) == ["one", "two"]
    assert reasons(tmp_path) == [(0, "unknown_format")]
    assert texts(tmp_path / "*.txt") == ["two"]


def test_nothing_to_read_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "none.txt", write(tmp_path / "a.exe", "MZ")):
        with pytest.raises(LuhuoError):
            list(read_records(path))


def test_html_gives_its_main_text_or_names_the_extra(tmp_path):
    page = "<html><nav>menu</nav><main><p>" + "The furnace burns pure blue. " * 20 + "</p></main></html>"
    path = write(tmp_path / "a.html", page)
    try:
        import resiliparse  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(LuhuoError, match="resiliparse"):
            texts(path)
    else:
        assert "pure blue" in texts(path)[0]
        assert "<p>" not in texts(path)[0]
