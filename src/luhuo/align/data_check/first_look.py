"""A short look at the data when fine-tuning begins: what `luhuo data-check` would say of its first rows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from luhuo.align.data_check.check import Checker, remembered
from luhuo.align.data_check.samples import Sample
from luhuo.align.data_check.show import brief
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import Rendered
from luhuo.tokenizer.tokenizer import Tokenizer

ROWS = 2000
"""Rows of each file that are looked at."""


class FirstLook:
    """Is shown conversations as they are read; checks the first of each file, also against held-out ones."""

    def __init__(self, tokenizer: Tokenizer, length: int, held: Sequence[Path]) -> None:
        leaks = remembered(held) if held else None
        self._checker = Checker(tokenizer, length, near=False, leaks=leaks)
        self._checker.rendering.tokenizer_alone(templated=True)
        self._seen: Counter[Path] = Counter()

    def __call__(self, file: Path, line: int, conversation: Conversation, parts: list[Rendered]) -> None:
        self._seen[file] += 1
        if self._seen[file] <= ROWS:
            self._checker.see(Sample(file.as_posix(), line, (conversation,)), [parts])

    def tell(self) -> dict[str, int]:
        """Say what was found, a line each; counts of the kinds of errors and warnings for the manifest."""
        self._checker.finish("conversations")
        found = list(self._checker.findings.listed(self._checker.statistics.rows))
        for line in brief(found, colour=sys.stderr.isatty()):
            say(line)
        if found:
            rows = f"{self._checker.statistics.rows:,}"
            say(
                tr(
                    f"({rows} rows looked at; luhuo data-check looks at all of them and says what to do)",
                    f"（检查了 {rows} 行；luhuo data-check 会检查全部并给出办法）",
                )
            )
        kinds = Counter(finding.severity for finding in found)
        return {"data.errors": kinds["error"], "data.warnings": kinds["warning"]}
