"""Text divided in two: one part that methods may look at, and one that models are measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.core.atomic import atomic_path
from luhuo.core.config import Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace

CALIBRATION, HELD_OUT = "calibration.jsonl", "heldout.jsonl"
SECTION = 4000
"""Characters that stay together: a text of one document is divided, too."""
FEW = 16
"""Texts below which they are cut into sections before they are divided."""
MOST = 40_000_000
"""Characters of a part: more of a very large text is not looked at."""


class TextDivision(Stage):
    """Every second text, chosen by its hash, for calibration, the others to measure on."""

    data: Input = field(..., "Text: files, or conversations.", "文本：文件或对话。")
    model: Input = field(..., "Model whose tokenizer and template read it.", "读取文本所用分词器与模板的模型。")

    def run(self, out: Workspace) -> None:
        """Write `calibration.jsonl` and `heldout.jsonl`, records with `text` and `lang`."""
        from luhuo.compress.texts import read_samples
        from luhuo.files.references import resolve
        from luhuo.tokenizer.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(resolve(self.model).path)
        texts = list[tuple[str, str]]()
        held = 0
        for sample in read_samples(Path(resolve(self.data).path), tokenizer):
            texts.append((sample.text, sample.lang))
            held += len(sample.text)
            if held > 2 * MOST:
                break
        counts = {name: _write(out.path / name, texts, odd) for name, odd in ((CALIBRATION, False), (HELD_OUT, True))}
        out.results |= {f"texts.{Path(name).stem}": count for name, count in counts.items()}
        if not all(counts.values()):
            raise LuhuoError(
                tr("The text is too short to be divided.", "文本太短，无法划分。"),
                expected=tr(
                    f"some ten thousand characters ({SECTION:,} stay together)", f"上万字（每 {SECTION:,} 字为一段）"
                ),
                found=tr(f"{held:,} characters", f"{held:,} 字"),
                where=self.data,
                fix=tr(
                    "Give more text, or a part to measure on: --heldout.",
                    "请提供更多文本，或用 --heldout 另给测量文本。",
                ),
            )


def _write(path: Path, texts: list[tuple[str, str]], odd: bool) -> int:
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for number, (text, lang) in enumerate(_parts(texts)):
            if _is_odd(text, number) is odd:
                handle.write(json.dumps({"id": f"{number}", "text": text, "lang": lang}, ensure_ascii=False) + "\n")
                count += 1
    return count


def _parts(texts: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    from luhuo.compress.measures.passages import cut

    for text, lang in texts:
        if len(texts) >= FEW:
            yield text, lang
        else:
            yield from ((part, lang) for part in cut(text, SECTION))


def _is_odd(text: str, number: int) -> bool:
    return bool(hashlib.sha256(f"{number}/{text}".encode("utf-8", "surrogatepass")).digest()[0] & 1)
