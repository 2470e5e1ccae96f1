"""`luhuo complete MODEL "text"`: continue a text on the terminal or in a pipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.dialogue.preview import printable
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling


def run_complete(
    model: str,
    text: str | None,
    values: dict[str, Any],
    *,
    echo: bool,
    adapter: Path | None = None,
    dtype: str,
    device: str,
) -> None:
    """Stream the continuation of `text` (of standard input without one) to standard output."""
    from luhuo.adapter.open import open_decoder

    sampling = Sampling.parse(values, "luhuo complete")
    if text is None and sys.stdin.isatty():
        raise LuhuoError(
            tr("There is no text to continue.", "没有要续写的文本。"),
            fix=tr('luhuo complete MODEL "text", or a pipe', 'luhuo complete 模型 "文本"，或使用管道'),
        )
    given = sys.stdin.read() if text is None else text
    engine = Engine(open_decoder(model, dtype=dtype, device=device, adapter=adapter))
    if echo:
        sys.stdout.write(given)
    # What goes to a terminal must not drive it; a file gets the text as it is.
    shown = printable if sys.stdout.isatty() else str
    reason = None
    for chunk in engine.stream(given, sampling):
        sys.stdout.write(shown(chunk.text))
        sys.stdout.flush()
        reason = chunk.finish_reason
    sys.stdout.write("\n")
    if reason == "length":
        say(tr("(cut off: --max-tokens or the end of the context)", "（已截断：达到 --max-tokens 或上下文末尾）"))
