"""The recipe of a result: everything that decides a task's scores, written beside them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from luhuo.core.digest import value_digest
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.encode import Encoded
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.documents import Document
from luhuo.inference.engine import Engine


def recipe_of(
    task: Task,
    engine: Engine,
    ask: AskSettings,
    context: int,
    seed: int,
    found: Sequence[Document],
    first: Encoded | None,
) -> dict[str, Any]:
    """{"task", "version", "prompt", "data", "model", …}: digests of what is long, the first prompt in full."""
    spec, tokenizer = task.spec, engine.tokenizer
    shown = None if first is None else _shown(first)
    return {
        "task": spec.task,
        "version": spec.version,
        "definition": task.digest,
        "kind": spec.kind,
        "split": spec.split,
        "items": value_digest([document.id for document in found]),
        "data": value_digest([document.fields for document in found]),
        "examples": value_digest([document.examples for document in found]),
        "shots": len(found[0].examples) if found else 0,
        "limit": ask.limit,
        "seed": seed,
        "mode": ask.mode,
        "shots_as": ask.shots_as if ask.mode == "chat" else None,
        "system": ask.system,
        "generation": _generation(task, ask) if spec.kind == "generation" else None,
        "context": context,
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "device": engine.model.device.type,
        "tokenizer": tokenizer.fingerprint,
        "template": value_digest(tokenizer.chat_template) if ask.mode == "chat" else None,
        "first_prompt": shown,
        "versions": {name: metadata.version(name) for name in ("luhuo", "torch", "tokenizers")},
    }


def _shown(first: Encoded) -> Any:
    asked = first.asked
    if asked.text:
        return asked.text[:2000]
    return asked.prompts[0] if asked.prompts else list(asked.turns)


def _generation(task: Task, ask: AskSettings) -> dict[str, Any]:
    wanted = task.spec.generation
    return {
        "max_tokens": ask.max_tokens or wanted.max_tokens,
        "stop": list(wanted.stop),
        "samples": ask.samples or wanted.samples,
        "temperature": wanted.temperature if ask.temperature is None else ask.temperature,
    }
