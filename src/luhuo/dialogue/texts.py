"""Plain text, for training without a chat template: whole texts, or completions behind a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.render import CONTEXT_CHARS, Rendered, continued
from luhuo.dialogue.rows import Layout, Reject, Row, read_layout
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Passage:
    """A text to be learned, and the text before it that is not (may be empty)."""

    prompt: str
    completion: str


def read_passages(path: str | Path, reject: Reject | None = None) -> tuple[str, Iterator[Passage]]:
    """The layout's name ("text" or "prompt-completion") and the passages of a file, as `read_conversations` does."""
    name, found = read_layout(path, LAYOUTS, tr("plain text", "纯文本"), reject)
    return name, (one.value for one in found)


def render_passage(passage: Passage, tokenizer: Tokenizer) -> Rendered:
    """Token ids and loss mask: the completion and the token that ends a text are targets.

    The two are encoded apart, so that training sees the tokens that generation starts from; a blank at the end of
    the prompt belongs to the completion, as it does there.
    """
    prompt = passage.prompt.rstrip(" ")
    written = passage.prompt[len(prompt) :] + passage.completion
    before = tokenizer.encode_prompt(prompt)
    answer = [*continued(tokenizer.encode, prompt[-CONTEXT_CHARS:], written), tokenizer.eos_id]
    return Rendered(before + answer, [0] * len(before) + [1] * len(answer))


def pieces(rendered: Rendered, limit: int) -> Iterator[Rendered]:
    """A rendering in parts of at most `limit` tokens; each part begins with the last token of the one before."""
    start = 0
    while start == 0 or start + 1 < len(rendered):
        end = start + limit
        mask = rendered.mask[start:end]
        yield Rendered(rendered.ids[start:end], [0, *mask[1:]] if start else mask)
        start = end - 1


def _text(row: Row) -> Passage:
    return Passage("", _string(row["text"]))


def _pair(row: Row) -> Passage:
    return Passage(_string(row["prompt"]), _string(row["completion"]))


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise LuhuoError(
            tr("Without a chat template, prompt, completion and text are text.", "不用对话模板时，各字段必须是文本。"),
            found=type(value).__name__,
        )
    return value


LAYOUTS: tuple[Layout[Passage], ...] = (
    Layout("prompt-completion", "prompt, completion", lambda row: "prompt" in row and "completion" in row, _pair),
    Layout("text", "text", lambda row: "text" in row, _text),
)
