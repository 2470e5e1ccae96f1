"""`luhuo chat MODEL`: a conversation in the terminal, or line by line through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.preview import printable
from luhuo.dialogue.render import fit
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling


def run_chat(
    model: str,
    *,
    system: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 256,
    seed: int = 0,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Load a model and talk with the person at the terminal, or answer the lines of a pipe."""
    from luhuo.model.load import load_decoder

    values = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    sampling = Sampling.parse(values, "luhuo chat")
    chat_loop(
        Engine(load_decoder(model, dtype=dtype, device=device)),
        sys.stdin,
        sys.stdout,
        sampling=sampling,
        system=system,
    )


def chat_loop(
    engine: Engine,
    stdin: TextIO,
    stdout: TextIO,
    *,
    sampling: Sampling | None = None,
    system: str | None = None,
    notes: TextIO | None = None,
) -> None:
    """Read messages line by line from `stdin` and stream the answers to `stdout` until the end or `/exit`.

    In a terminal there are prompts and an editable line. Notes and errors go to `notes` (standard error), so that a
    pipe carries answers only.
    """
    ChatSession(engine, stdout, sampling or Sampling(), system, notes or sys.stderr).run(stdin)


class ChatSession:
    """The history and settings of one chat."""

    def __init__(self, engine: Engine, stdout: TextIO, sampling: Sampling, system: str | None, notes: TextIO) -> None:
        self.engine, self.sampling, self.system = engine, sampling, system
        self.history: list[Message] = []
        self._console = Console(file=stdout, highlight=False, markup=False, soft_wrap=True)
        self._notes = Console(file=notes, highlight=False, markup=False, soft_wrap=True, style="dim")

    def run(self, stdin: TextIO) -> None:
        """Answer line after line; Ctrl-C stops an answer, and ends the chat at the prompt."""
        if stdin.isatty():
            self._notes.print(tr("Type a message; /help shows the commands.", "请输入消息；/help 查看命令。"))
        for line in self._lines(stdin):
            text = line.strip()
            if not text:
                continue
            if text.startswith("/") and not text.startswith("//"):
                if not self._command(text):
                    return
                continue
            try:
                self.answer(text.removeprefix("/") if text.startswith("//") else text)
            except LuhuoError as error:
                self._notes.print(str(error))

    def answer(self, text: str) -> str:
        """Stream the answer to a message, and remember both. Raises `LuhuoError` if the message is too long."""
        conversation = self._fitted([*self.history, Message("user", text)])
        pieces: list[str] = []
        reason = None
        try:
            for chunk in self.engine.stream(conversation, self.sampling):
                pieces.append(chunk.text)
                reason = chunk.finish_reason
                self._console.print(printable(chunk.text), end="")
                self._console.file.flush()
        except KeyboardInterrupt:
            self._notes.print(tr(" (stopped)", "（已停止）"), end="")
        self._console.print()
        if reason == "length":
            limit = self.sampling.max_tokens
            self._notes.print(
                tr(f"(cut off: {limit} tokens or end of context)", f"（已截断：达到 {limit} 词元或上下文末尾）")
            )
        reply = "".join(pieces)
        kept = conversation.messages[1:] if self.system else conversation.messages
        self.history = [*kept, Message("assistant", reply)]
        return reply

    def _fitted(self, messages: list[Message]) -> Conversation:
        """The conversation with room for an answer, old turns taken off if they must be, and a note that says so."""
        opening = [Message("system", self.system)] if self.system else []
        whole = Conversation((*opening, *messages))
        room = self.engine.context - min(self.sampling.max_tokens, self.engine.context // 2)
        if len(self.engine.prompt_ids(whole)) <= room:
            return whole
        fitting, taken = fit(whole, self.engine.tokenizer, room, generation_prompt=True)
        if fitting is None:
            raise LuhuoError(
                tr("This message is too long for the model's context.", "这条消息超出了模型上下文。"),
                expected=tr(f"at most {room} tokens in all", f"合计不超过 {room} 个词元"),
                found=len(self.engine.prompt_ids(Conversation((*opening, messages[-1])))),
            )
        self._notes.print(
            tr(
                f"(the context is full: the {taken} oldest messages are forgotten)",
                f"（上下文已满：最早的 {taken} 条消息已被遗忘）",
            )
        )
        return fitting

    def _command(self, text: str) -> bool:
        """Carry out a slash command; False ends the chat."""
        name, _, rest = text.partition(" ")
        if name in ("/exit", "/quit"):
            return False
        if name == "/reset":
            self.history = []
            self._notes.print(tr("The history is empty again.", "历史已清空。"))
        elif name == "/system":
            self.system, self.history = rest.strip() or None, []
            self._notes.print(
                tr("New system prompt; the history is empty again.", "系统提示已更新，历史已清空。")
                if self.system
                else tr("No system prompt; the history is empty again.", "系统提示已移除，历史已清空。")
            )
        else:
            if name != "/help":
                self._notes.print(tr(f"There is no command {name}.", f"没有命令 {name}。"))
            self._notes.print(
                tr(
                    "/reset  forget the conversation\n/system TEXT  set the system prompt (empty: none)\n"
                    "/exit  end (also Ctrl-D)\n//text  a message that begins with a slash",
                    "/reset  清空对话\n/system 文本  设置系统提示（留空则移除）\n"
                    "/exit  结束（或 Ctrl-D）\n//文本  以斜杠开头的消息",
                )
            )
        return True

    def _lines(self, stdin: TextIO) -> Iterator[str]:
        """Lines of a pipe, or of a person with a prompt and an editable line."""
        if not stdin.isatty():
            yield from stdin
            return
        try:
            import readline  # noqa: F401 (importing it makes `input` editable, with history)
        except ImportError:
            self._notes.print(tr("(no line editing on this system)", "（此系统不支持行编辑）"))
        while True:
            try:
                yield input(tr("you › ", "你 › "))
            except (EOFError, KeyboardInterrupt):
                self._console.print()
                return
