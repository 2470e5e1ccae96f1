"""Judgements in a file, read as the stage `reward` reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from luhuo.align.reward_data import RewardData, read_reward_data
from tests.small_chat import small_tokenizer


def read(path: Path, rows: list[dict[str, Any]], length: int = 255, wrong: list[Any] | None = None) -> RewardData:
    """What is learned of these rows; those that cannot be used are put into `wrong`."""
    file = path / "data.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_reward_data([file], small_tokenizer(), length, ([] if wrong is None else wrong).append)
