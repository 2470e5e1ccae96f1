"""The terminal side of `luhuo chat`: reading messages of several lines, and showing Markdown while it streams."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from luhuo.core.language import tr

FENCES = ("```", "~~~")
QUOTES = '"""'
"""On a line of its own: a message of several lines begins, or ends."""


class Screen:
    """Answers go to `stdout`, everything else to `notes`, so that a pipe carries answers only."""

    def __init__(self, stdout: TextIO, notes: TextIO, *, plain: bool = False) -> None:
        self.console = Console(file=stdout, highlight=False, markup=False, soft_wrap=True)
        self._notes = Console(file=notes, highlight=False, markup=False, soft_wrap=True, style="dim")
        self._markdown = self.console.is_terminal and not plain

    def note(self, text: str) -> None:
        """One line that is no answer."""
        self._notes.print(text)

    @contextlib.contextmanager
    def answer(self) -> Iterator[Answer]:
        """Show one answer as it comes."""
        shown = MarkdownAnswer(self.console) if self._markdown else Answer(self.console, self._notes)
        try:
            yield shown
        finally:
            shown.close()


class Answer:
    """An answer as plain text. Reasoning is told on the side."""

    def __init__(self, console: Console, notes: Console) -> None:
        self._console, self._notes = console, notes
        self._thinking = False

    def think(self, text: str) -> None:
        """More reasoning."""
        if text:
            self._thinking = True
            self._notes.print(text, end="")

    def say(self, text: str) -> None:
        """More of the answer."""
        if text and self._thinking:
            self._thinking = False
            self._notes.print()
        self._console.print(text, end="")
        self._console.file.flush()

    def close(self) -> None:
        """The answer has ended."""
        self._console.print()


class MarkdownAnswer(Answer):
    """An answer as Markdown: whole blocks are printed for good, and only the one that still grows is drawn anew."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, console)
        self._pending = ""
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._live.start()

    def think(self, text: str) -> None:
        """More reasoning, dim and above the answer."""
        self._pending += text
        done, self._pending = _lines(self._pending)
        if done:
            self._live.console.print(done, style="dim italic")
        self._live.update(self._pending, refresh=True)

    def say(self, text: str) -> None:
        """More of the answer."""
        self._pending += text
        done, self._pending = split_blocks(self._pending)
        if done:
            self._live.update("")
            self._live.console.print(_markdown(done), soft_wrap=False)
        self._live.update(_markdown(self._pending), refresh=True)

    def close(self) -> None:
        """Print what is left."""
        self._live.update("", refresh=True)
        self._live.stop()
        if self._pending.strip():
            self._console.print(_markdown(self._pending), soft_wrap=False)


def split_blocks(text: str) -> tuple[str, str]:
    """(blocks of Markdown that cannot change any more, the rest). A block ends at a blank line outside of code."""
    end, at, fence = 0, 0, ""
    for line in text.splitlines(keepends=True):
        at += len(line)
        begun = line.lstrip()
        if fence:
            if begun.startswith(fence) and not begun.strip().strip(fence[0]):
                fence = ""
        elif begun.startswith(FENCES):
            fence = begun[: len(begun) - len(begun.lstrip(begun[0]))]
        elif not line.strip() and line.endswith("\n"):
            end = at
    return text[:end].strip("\n"), text[end:]


def messages_of(stdin: TextIO, screen: Screen) -> Iterator[str]:
    """Messages that a person types, or the lines of a pipe; blank ones are passed over.

    A line that ends with a backslash goes on with the next; lines between two lines of three quotes are one message.
    """
    lines = _typed(screen) if stdin.isatty() else (line.rstrip("\n") for line in stdin)
    for line in lines:
        if line.strip() == QUOTES:
            inside = []
            for inner in lines:
                if inner.strip() == QUOTES:
                    break
                inside.append(inner)
            text = "\n".join(inside)
        else:
            parts = [line]
            while parts[-1].endswith("\\"):
                parts[-1] = parts[-1][:-1]
                following = next(lines, None)
                if following is None:
                    break
                parts.append(following)
            text = "\n".join(parts)
        if text.strip():
            yield text.strip()


def _typed(screen: Screen) -> Iterator[str]:
    """Lines that a person edits, with those before at the arrow keys."""
    try:
        import readline  # noqa: F401 (importing it makes `input` editable, with history)
    except ImportError:
        screen.note(tr("(no line editing on this system)", "（此系统不支持行编辑）"))
    while True:
        try:
            yield input(tr("you › ", "你 › "))
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return


def _markdown(text: str) -> Markdown:
    """Links are shown with their address: what a model writes must not hide where it leads."""
    return Markdown(text, hyperlinks=False)


def _lines(text: str) -> tuple[str, str]:
    done, newline, rest = text.rpartition("\n")
    return (done, rest) if newline else ("", text)
