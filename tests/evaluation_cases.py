"""A small quiz as task file and data, for the tests of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from luhuo.core.atomic import write_text
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.runner import Runner, Subject, TaskResult
from luhuo.evaluation.tasks import catalogue
from luhuo.inference.engine import Engine
from luhuo.model.decoder import Decoder

QUIZ: dict[str, Any] = {
    "task": "quiz",
    "version": 1,
    "summary": {"en": "A quiz.", "zh": "小测验。"},
    "languages": ["en"],
    "licence": "CC0",
    "source": "made up",
    "kind": "choice",
    "data": {"layouts": [{"files": {"test": "quiz.jsonl*", "train": "train.jsonl*"}}]},
    "prompt": "Question: {{question}}\nAnswer:",
    "choices": "options",
    "answer": "options.index(correct)",
    "subject": "topic",
    "metrics": ["acc", "acc_norm"],
}
WRITING = {
    "kind": "generation",
    "reference": "{{correct}}",
    "metrics": ["exact.first"],
    "choices": None,
    "answer": None,
}
"""What makes the quiz one of writing."""


def rows(count: int = 6) -> list[dict[str, Any]]:
    """Questions of two topics."""
    animals = ["cat", "heron", "snake", "horse", "perch", "sparrow"]
    return [
        {
            "id": f"q{number}",
            "topic": ("zoology", "spelling")[number % 2],
            "question": f"Which word stands in place {number} of the list {', '.join(animals)}?",
            "options": animals[number % 3 : number % 3 + 3 + number % 2],
            "correct": animals[number % 3 + number % 2],
        }
        for number in range(count)
    ]


def task_file(folder: Path, name: str = "quiz", **changes: Any) -> Path:
    """A task file; a change to None leaves the key out."""
    values = {key: value for key, value in (QUIZ | {"task": name} | changes).items() if value is not None}
    write_text(folder / f"{name}.yaml", yaml.safe_dump(values, allow_unicode=True))
    return folder / f"{name}.yaml"


def data(folder: Path, count: int = 6, train: int = 3) -> Path:
    """The folder with the quiz's data."""
    for name, part in (("quiz", rows(count)), ("train", [row | {"id": f"t{row['id']}"} for row in rows(train)])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        write_text(folder / "data" / f"{name}.jsonl", text)
    return folder / "data"


def run(model: Decoder, file: Path, folder: Path | None, digest: str | None = None, **ask: Any) -> TaskResult:
    """The task of a file on a model."""
    runner = Runner(Subject(Engine(model), digest), AskSettings.parse(ask))
    return runner.run(catalogue.task(str(file)), None if folder is None else str(folder))
