"""Labelling texts by hand in the terminal: `luhuo label`. What was labelled before is not asked again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.readers import read_records
from luhuo.files.records import Broken

SHOWN = 1500
"""Characters of a text that are shown."""
QUIT, SKIP, UNDO = "q", "s", "u"


def identity(text: str) -> str:
    """The name of a text in the file of labels."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def readable(text: str) -> str:
    """The beginning of a text for a terminal: nothing in it can move the cursor or change colours."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text[:SHOWN])
    return shown + (f"\n… (+{len(text) - SHOWN})" if len(text) > SHOWN else "")


class LabelFile:
    """The labels given so far, one JSON object a line: {"id", "text", "label"}. The last line of a text counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, str] = {}
        if path.exists():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                self._read(line, number)

    def _read(self, line: str, number: int) -> None:
        try:
            row = json.loads(line)
            self.done[row["id"]] = row["label"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise LuhuoError(
                tr("This is not a file of labels.", "这不是标注文件。"),
                expected='{"id", "text", "label"}',
                found=error,
                where=f"{self.path}:{number}",
            ) from None

    def add(self, text: str, label: str) -> None:
        """Append a label; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = identity(text)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"id": name, "text": text, "label": label}, ensure_ascii=False) + "\n")
        self.done[name] = label

    def undo(self) -> bool:
        """Take the last label back. False if there is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        if not lines:
            return False
        write_text(self.path, "".join(lines[:-1]))
        self.done.pop(json.loads(lines[-1])["id"], None)
        return True


def texts(path: str | Path, text_field: str) -> Iterator[str]:
    """The texts of a file, as they are read."""
    for record in read_records(path, text_field=text_field):
        if not isinstance(record, Broken):
            yield record.text


def label(
    source: str | Path,
    target: Path,
    labels: Sequence[str],
    *,
    text_field: str = "text",
    ask: Callable[[str], str],
    show: Callable[[str], None],
) -> int:
    """Ask for the label of each text that has none, until the answer is `q` or the texts end. Returns how many.

    Answers: the number or the beginning of a label, `s` skips a text, `u` takes the last label back.
    """
    if len(set(labels)) < 2 or any(name.lower() in (QUIT, SKIP, UNDO) or not name for name in labels):
        raise LuhuoError(
            tr("These labels cannot be used.", "这些标签不可用。"),
            expected=tr(
                "two different names at least, none of them q, s or u", "至少两个不同的名称，且不能是 q、s、u"
            ),
            found=", ".join(labels),
        )
    file = LabelFile(target)
    menu = "  ".join(f"{number}={name}" for number, name in enumerate(labels, 1))
    menu += tr("  s=skip  u=undo  q=quit", "  s=跳过  u=撤销  q=退出")
    waiting = texts(source, text_field)
    again, past, skipped = list[str](), list[str](), set[str]()
    while True:
        text = again.pop() if again else next(waiting, None)
        if text is None:
            break
        if identity(text) in file.done or identity(text) in skipped:
            continue
        show(f"\n[{len(file.done) + 1}]\n{readable(text)}\n")
        answer = ask(menu).strip()
        if answer == QUIT:
            break
        chosen = _chosen(answer, labels)
        if answer == SKIP:
            skipped.add(identity(text))
        elif chosen:
            file.add(text, chosen)
            past.append(text)
        else:  # ask again, and after an undo first about the text before
            again.append(text)
            if answer == UNDO and past and file.undo():
                again.append(past.pop())
    return len(past)


def _chosen(answer: str, labels: Sequence[str]) -> str | None:
    """The label that an answer means: its number, or the only one that begins so."""
    if answer.isdigit():
        return labels[int(answer) - 1] if 1 <= int(answer) <= len(labels) else None
    fitting = [name for name in labels if answer and name.lower().startswith(answer.lower())]
    return fitting[0] if len(fitting) == 1 or (fitting and fitting[0].lower() == answer.lower()) else None
