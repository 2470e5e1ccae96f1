"""What people thought of answers, kept as training data: files that preference training reads as they are."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock
from pydantic import Field, model_validator

from luhuo.core.language import tr
from luhuo.serve.errors import ApiError
from luhuo.serve.lines import json_line
from luhuo.serve.schemas import Body

MAX_FILE = 1 << 30
"""Bytes at which a file takes nothing more."""

UNPAIRED, PAIRED = "unpaired_preference.jsonl", "preference.jsonl"

Text = Annotated[str, Field(max_length=1_000_000)]


class Turn(Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text


Turns = Annotated[list[Turn], Field(min_length=1, max_length=4096)]


class FeedbackBody(Body):
    """POST /feedback in TRL's vocabulary: `completion` and `label`, or `chosen` and `rejected`."""

    prompt: Turns
    completion: Turns | None = None
    label: bool | None = None
    chosen: Turns | None = None
    rejected: Turns | None = None
    model: Annotated[str, Field(max_length=512)] | None = None
    chosen_model: Annotated[str, Field(max_length=512)] | None = None
    rejected_model: Annotated[str, Field(max_length=512)] | None = None
    comment: Annotated[str, Field(max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> FeedbackBody:
        unpaired = [self.completion is not None, self.label is not None]
        paired = [self.chosen is not None, self.rejected is not None]
        if not ((all(unpaired) and not any(paired)) or (all(paired) and not any(unpaired))):
            raise ValueError(
                tr(
                    "give completion and label, or chosen and rejected",
                    "请给出 completion 与 label，或 chosen 与 rejected",
                )
            )
        return self

    @property
    def paired(self) -> bool:
        """Whether two answers were compared."""
        return self.chosen is not None


class Feedback:
    """Appends records to the files of one folder; several servers may share it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = threading.Lock()

    def add(self, body: FeedbackBody) -> None:
        """Write one record to the disk. Raises `ApiError` 507 when the file has reached its size."""
        record: dict[str, Any] = body.model_dump(exclude_none=True)
        line = json_line(record).encode() + b"\n"
        file = self.folder / (PAIRED if body.paired else UNPAIRED)
        with self._lock, FileLock(f"{file}.lock"), file.open("a+b") as handle:
            size = handle.seek(0, os.SEEK_END)
            if size + len(line) > MAX_FILE:
                raise ApiError(507, tr("The file of feedback is full.", "反馈文件已满。"))
            if size:  # a write that was cut off before must not spoil this line
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = b"\n" + line
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
