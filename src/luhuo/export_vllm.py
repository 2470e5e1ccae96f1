"""`luhuo export --to vllm`: a checked model directory and the exact command that serves it with vLLM."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.safetensors import Safetensors

SCRIPT = "serve.sh"
TOOL_PARSERS = {
    "hermes": "hermes",
    "mistral": "mistral",
    "deepseek": "deepseek_v3",
    "glm": "glm45",
    "qwen-coder": "qwen3_coder",
    "llama": "llama3_json",
}
"""vLLM's name of the parser for each of our formats of tool calls."""


def add_command(folder: Path, name: str) -> str:
    """Check that vLLM finds what it looks for in a model directory, write the command beside it, and return it.

    Raises `LuhuoError` when something is missing. `name` is the directory's final name.
    """
    config = _checked(folder)
    dtype = {"bfloat16": "bfloat16", "float16": "float16"}.get(str(config.get("dtype") or config.get("torch_dtype")))
    words = ["vllm", "serve", name, "--served-model-name", Path(name).name, "--dtype", dtype or "float32"]
    if length := config.get("max_position_embeddings"):
        words += ["--max-model-len", str(length)]
    words += _tool_options(folder)
    command = shlex.join(words)
    write_text(folder / SCRIPT, f'#!/bin/sh\n# pip install vllm\nexec {command} "$@"\n')
    (folder / SCRIPT).chmod(0o755)
    return command


def _checked(folder: Path) -> dict[str, Any]:
    """config.json of a directory in which nothing is missing."""
    missing = [
        name for name in ("config.json", "tokenizer.json", "tokenizer_config.json") if not (folder / name).is_file()
    ]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) if not missing else {}
    missing += [
        f"config.json: {key}" for key in ("architectures", "model_type") if not missing and not config.get(key)
    ]
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    stored = {name for file in files for name in Safetensors(file).tensors}
    listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.is_file() else dict.fromkeys(stored)
    missing += sorted(set(listed) - stored)[:5] or ([] if stored else ["*.safetensors"])
    if missing:
        raise LuhuoError(
            tr("vLLM would not load this directory: something is missing.", "vLLM 无法加载该目录：缺少内容。"),
            found=", ".join(missing),
            where=folder,
        )
    return config


def _tool_options(folder: Path) -> list[str]:
    """Options that make vLLM read the model's tool calls, where its template knows tools."""
    from luhuo.inference.tool_choice import tool_format
    from luhuo.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    if "tools" not in (tokenizer.chat_template or ""):
        return []
    parser = TOOL_PARSERS.get(tool_format(tokenizer).name)
    return ["--enable-auto-tool-choice", "--tool-call-parser", parser] if parser else []
