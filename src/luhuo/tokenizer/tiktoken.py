"""Rank files of tiktoken and Mistral: which model they belong to decides how text is cut and which tokens are special.

The rank file holds neither; a model's own code does. What is known here: Qwen 1, Kimi (Moonlight, K2), Llama 3, and
OpenAI's own vocabularies by their file names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.tokenizer import bytelevel
from luhuo.tokenizer.framing import frame
from luhuo.tokenizer.patterns import RECIPES, Recipe
from luhuo.tokenizer.settings import Settings

LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\s*$")


@dataclass(frozen=True)
class Known:
    """How a vocabulary is used: recipe, and special tokens in the order of their ids after the ranks."""

    recipe: Recipe
    special: tuple[str, ...]
    skip: int = 0
    """Free ids between the ranks and the first special token."""
    start: str = ""
    """The token that stands before a whole text."""


QWEN = Known(
    Recipe(RECIPES["qwen2"].splits, nfc=True, whole_pieces=True),
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))),
)
LLAMA3 = Known(
    RECIPES["llama-bpe"],
    (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
        "<|finetune_right_pad_id|>",
        "<|step_id|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
        *(f"<|reserved_special_token_{i}|>" for i in range(2, 247)),
    ),
    start="<|begin_of_text|>",
)
CL100K = Known(
    Recipe(RECIPES["llama-bpe"].splits, whole_pieces=True),
    ("<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    skip=1,
)
O200K = Known(Recipe(RECIPES["gpt-4o"].splits, whole_pieces=True), ("<|endoftext|>",), skip=1)
GPT2 = Known(Recipe(RECIPES["gpt-2"].splits, whole_pieces=True), ("<|endoftext|>",))


def is_ranks(file: Path) -> bool:
    """Whether the file starts with a line of a rank file: a base64 token and a number."""
    with file.open("rb") as handle:
        return LINE.match(handle.readline(8192)) is not None


def load(file: Path, settings: Settings) -> tokenizers.Tokenizer:
    """The tokenizer of a rank file. Raises `LuhuoError` if it is damaged or of a model that is not known."""
    ranks = bytelevel.read_ranks(file)
    known = _known(file, settings, len(ranks))
    if known is None:
        raise LuhuoError(
            tr(
                "A rank file does not say how text is cut, and this model is not known.",
                "秩文件不含切分规则，而该模型未知。",
            ),
            expected="Qwen 1, Kimi, Llama 3, cl100k_base, o200k_base, r50k_base",
            found=settings.kind or file.name,
            where=file,
            fix=tr("Put the model's tokenizer.json into the directory.", "请把该模型的 tokenizer.json 放入目录。"),
        )
    special = {t.text: t.number for t in settings.added if t.special and t.number is not None}
    taken = {*special.values()}
    start = max(ranks.values()) + 1 + known.skip
    for number, token in enumerate(known.special, start):
        if token not in special and number not in taken:
            special[token] = number
    core = bytelevel.from_ranks(ranks, known.recipe, special, file)
    frame(core, [known.start] if known.start else [], [])
    return core


def _known(file: Path, settings: Settings, count: int) -> Known | None:
    name, hints = file.stem.lower(), " ".join([settings.kind, str(settings.model.get("architectures"))]).lower()
    if "qwen" in name or "qwen" in hints:
        return QWEN
    if "tiktokentokenizer" in hints or "kimi" in hints or "moonshot" in hints:
        reserved = tuple(f"<|reserved_token_{i}|>" for i in range(count, count + 256))
        return Known(RECIPES["kimi-k2"], reserved)
    if name.startswith(("cl100k", "o200k", "r50k", "gpt2")):
        return CL100K if name.startswith("cl100k") else O200K if name.startswith("o200k") else GPT2
    return LLAMA3 if count == 128_000 else None


def from_tekken(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of Mistral's `tekken.json`. Raises `LuhuoError` if it is damaged."""
    ranks, pattern, special = bytelevel.read_tekken(file)
    core = bytelevel.from_ranks(ranks, RECIPES["tekken"], special, file)
    core.pre_tokenizer = bytelevel.pre_tokenizer_of(pattern)
    frame(core, ["<s>"], [])
    return core
