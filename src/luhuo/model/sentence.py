"""Folders of sentence encoders: beside the encoder, small files say how a text becomes one vector.

`modules.json` lists the steps (the encoder, pooling, normalisation), each with a folder of its own settings; this is
the layout of the sentence-transformers library.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.encoder_config import SentenceConfig

MODULES, LENGTH, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"

POOLING = {"mean": "mean", "cls": "first", "max": "max", "lasttoken": "last"}
"""Published ways of pooling that we know, and ours."""

KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How they are told by the library before its version 6: a key each."""

ENDLESS = 1_000_000
"""A length from which on a tokenizer means that it knows no limit."""

TYPE = "sentence_transformers.models."


def encoder_folder(root: Path) -> Path:
    """Where the encoder itself lies: `root`, or the folder that `modules.json` names."""
    first = next(iter(_modules(root)), None)
    return root / first[1] if first else root


def read_sentence(root: Path) -> SentenceConfig | None:
    """How the folder's texts become vectors; None for a plain encoder. Raises `LuhuoError` for a step we lack."""
    modules = _modules(root)
    if not modules:
        return None
    pooling, normalise = None, False
    prompt = _prompt(root / PROMPTS)
    for kind, path in modules[1:]:
        if kind == "Pooling" and pooling is None:
            pooling = _pooling(root / path / "config.json", prompt)
        elif kind == "Normalize" and pooling is not None:
            normalise = True
        else:
            raise _unsupported(root, kind)
    encoder = root / modules[0][1]
    settings = _read(encoder / LENGTH)
    if settings.get("do_lower_case"):
        raise _unsupported(root, "do_lower_case")
    longest = settings.get("max_seq_length") or _read(encoder / "tokenizer_config.json").get("model_max_length")
    fields = {
        "pooling": pooling or "mean",
        "normalise": normalise,
        "max_length": longest if isinstance(longest, int) and longest < ENDLESS else None,
        "prompt": prompt,
    }
    return SentenceConfig.parse(fields, where=str(root))


def write_sentence(root: Path, sentence: SentenceConfig, width: int) -> None:
    """Write the files that make an encoder's folder, `width` features, one of a sentence encoder."""
    steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
    if sentence.normalise:
        steps.append(("Normalize", "2_Normalize"))
    (root / "1_Pooling").mkdir(exist_ok=True)
    ways = {key: POOLING.get(way) == sentence.pooling for key, way in KEYS.items()}
    write_json(root / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **ways})
    write_json(root / LENGTH, {"max_seq_length": sentence.max_length, "do_lower_case": False})
    prompts = {"default": sentence.prompt} if sentence.prompt else {}
    name = next(iter(prompts), None)
    write_json(root / PROMPTS, {"prompts": prompts, "default_prompt_name": name, "similarity_fn_name": "cosine"})
    listed = [{"idx": i, "name": str(i), "path": path, "type": TYPE + kind} for i, (kind, path) in enumerate(steps)]
    write_json(root / MODULES, listed)


def _modules(root: Path) -> list[tuple[str, str]]:
    """(kind, folder) of each step, in order; empty for a plain encoder."""
    if not (root / MODULES).is_file():
        return []
    listed = _parsed(root / MODULES)
    try:
        steps = [(str(step["type"]).rsplit(".", 1)[-1], str(step["path"])) for step in listed]
    except (KeyError, TypeError) as error:
        raise LuhuoError(
            tr("modules.json is not a list of steps.", "modules.json 不是步骤列表。"),
            found=error,
            where=root / MODULES,
        ) from None
    outside = [path for _, path in steps if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts]
    if outside:
        raise LuhuoError(
            tr("modules.json names a folder outside this one.", "modules.json 指向目录之外。"),
            found=outside,
            where=root / MODULES,
        )
    if not steps or steps[0][0] != "Transformer":
        raise _unsupported(root, steps[0][0] if steps else None)
    return steps


def _prompt(file: Path) -> str:
    """What is put in front of every text."""
    settings = _read(file)
    name = settings.get("default_prompt_name")
    prompts = settings.get("prompts")
    found = prompts.get(name) if name and isinstance(prompts, dict) else ""
    return found if isinstance(found, str) else ""


def _pooling(file: Path, prompt: str) -> str:
    settings = _read(file)
    modes = settings.get("pooling_mode") or [way for key, way in KEYS.items() if settings.get(key)]
    modes = [modes] if isinstance(modes, str) else modes
    skips = bool(prompt) and settings.get("include_prompt") is False
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in POOLING or skips:
        raise LuhuoError(
            tr("This way of pooling is not supported.", "不支持这种池化方式。"),
            expected=tr("one of: ", "以下之一：") + ", ".join(POOLING),
            found={"include_prompt": False} if skips else modes,
            where=file,
        )
    return POOLING[modes[0]]


def _read(file: Path) -> dict[str, Any]:
    """A parsed JSON object; empty without the file."""
    values = _parsed(file) if file.is_file() else {}
    if not isinstance(values, dict):
        raise LuhuoError(
            tr("This file is not a JSON object.", "该文件不是 JSON 对象。"), found=type(values).__name__, where=file
        )
    return values


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LuhuoError(
            tr("This file is not valid JSON.", "该文件不是合法的 JSON。"), found=str(error), where=file
        ) from None


def _unsupported(root: Path, step: object) -> LuhuoError:
    return LuhuoError(
        tr("This step of a sentence encoder is not supported.", "不支持句向量模型的这一步骤。"),
        expected="Transformer, Pooling, Normalize",
        found=step,
        where=root / MODULES,
    )
