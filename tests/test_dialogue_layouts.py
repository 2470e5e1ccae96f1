"""Layouts of conversation files: detected, said, streamed; what cannot be used is reported."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from luhuo.core.errors import LuhuoError
from luhuo.dialogue.layouts import read_conversations
from luhuo.files.records import Broken

TURNS = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
ROWS = {
    "openai": {"messages": TURNS},
    "sharegpt": {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]},
    "alpaca": {"instruction": "问", "input": "", "output": "答"},
    "prompt-completion": {"prompt": "问", "completion": "答"},
    "prompt-completion-messages": {"prompt": TURNS[:1], "completion": TURNS[1:]},
    "query-response": {"query": "问", "response": "答", "history": []},
    "world": {"id": "7", "family": "fact", "lang": "zh", "messages": TURNS[:1], "answer": "答", "response": "答"},
}


def write(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("layout", ROWS)
def test_each_layout_is_detected_and_gives_the_same_conversation(layout: str, tmp_path: Path):
    name, conversations = read_conversations(write(tmp_path / "x.jsonl", ROWS[layout], ROWS[layout]))
    assert name == layout
    assert [c.plain() for c in conversations] == [TURNS, TURNS]


@pytest.mark.parametrize("suffix", [".json", ".jsonl.gz", ".jsonl.zst"])
def test_lists_and_compressed_files_are_read_too(suffix: str, tmp_path: Path):
    row = json.dumps(ROWS["openai"])
    content = (f"[{row},\n {row}]" if suffix == ".json" else f"{row}\n{row}\n").encode()
    squeeze = {".json": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress}
    path = tmp_path / f"x{suffix}"
    path.write_bytes(squeeze[suffix](content))
    assert len(list(read_conversations(path)[1])) == 2


def test_the_world_layout_keeps_family_and_language(tmp_path: Path):
    _, conversations = read_conversations(write(tmp_path / "x.jsonl", ROWS["world"]))
    assert next(conversations).meta == {"id": "7", "family": "fact", "lang": "zh"}


def test_alpaca_input_and_history_and_system_are_kept(tmp_path: Path):
    row = {"instruction": "A", "input": "B", "output": "C", "history": [["h", "i"]], "system": "S"}
    _, conversations = read_conversations(write(tmp_path / "x.jsonl", row))
    assert [m["content"] for m in next(conversations).plain()] == ["S", "h", "i", "A\n\nB", "C"]


def test_only_the_completion_is_a_target_in_prompt_completion(tmp_path: Path):
    row = {"prompt": [*TURNS, {"role": "user", "content": "u"}], "completion": TURNS[1:]}
    _, conversations = read_conversations(write(tmp_path / "x.jsonl", row))
    assert [m.is_target for m in next(conversations).messages] == [False, False, False, True]


def test_openai_parts_and_weights_are_understood(tmp_path: Path):
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "问"}]},
        {"role": "assistant", "content": "答", "weight": 0},
    ]
    conversation = next(read_conversations(write(tmp_path / "x.jsonl", {"messages": turns}))[1])
    assert conversation.plain() == TURNS and not conversation.has_target


def test_broken_rows_are_reported_with_line_and_reason_and_the_others_kept(tmp_path: Path):
    wrong_order = {"messages": TURNS[::-1]}
    no_text = {"messages": [{"role": "user", "content": None}]}
    path = write(tmp_path / "x.jsonl", "{bad", ROWS["openai"], {"z": 1}, wrong_order, no_text, ROWS["openai"])
    found: list[Broken] = []
    name, conversations = read_conversations(path, found.append)
    assert name == "openai" and len(list(conversations)) == 2
    assert [(b.line, b.reason.split(":")[0]) for b in found] == [
        (1, "bad_json"),
        (3, "other_layout"),
        (4, "role_order"),
        (5, "bad_conversation"),
    ]


def test_without_a_quarantine_a_broken_row_stops_the_reading(tmp_path: Path):
    _, conversations = read_conversations(write(tmp_path / "x.jsonl", ROWS["alpaca"], "{bad"))
    with pytest.raises(LuhuoError, match="no conversation"):
        list(conversations)


def test_an_unknown_layout_names_the_known_ones_and_what_was_found(tmp_path: Path):
    with pytest.raises(LuhuoError) as caught:
        read_conversations(write(tmp_path / "x.jsonl", {"question": "a", "reply": "b"}))
    assert "alpaca" in str(caught.value) and caught.value.found == "question, reply"


def test_a_folder_names_the_files_inside(tmp_path: Path):
    write(tmp_path / "train.jsonl", ROWS["openai"])
    with pytest.raises(LuhuoError, match=r"train\.jsonl"):
        read_conversations(tmp_path)


def test_parquet_s_nulls_are_nothing(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet files are an extra")
    from pyarrow import parquet

    nulls = {"train": None, "weight": None, "tool_calls": None, "from": None}
    rows = [{"messages": [turn | nulls for turn in TURNS], "tools": None}, {"messages": TURNS, "tools": "[]"}]
    rows[1]["messages"] = [TURNS[0], TURNS[1] | {"train": False, "weight": 1.0}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    _, conversations = read_conversations(tmp_path / "x.parquet")
    first, second = conversations
    assert first.plain() == TURNS and first.has_target and not second.has_target
