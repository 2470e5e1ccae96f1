"""`luhuo chat MODEL`: a conversation in the terminal, or line by line through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.preview import printable
from luhuo.dialogue.render import fit
from luhuo.inference.answers import AnswerReader, shows_special
from luhuo.inference.chat_commands import run_command
from luhuo.inference.chat_screen import Screen, messages_of
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling


def run_chat(
    model: str,
    message: str | None = None,
    *,
    system: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 256,
    seed: int = 0,
    plain: bool = False,
    dtype: str = "auto",
    device: str = "auto",
    adapter: str | None = None,
) -> None:
    """Load a model and talk with the person at the terminal, answer the lines of a pipe, or answer `message` alone.

    What comes through a pipe beside a `message` is put behind it: `cat file | luhuo chat MODEL "summarise"`. In a
    terminal answers are shown as Markdown, unless `plain`.
    """
    from luhuo.adapter.open import open_decoder

    values = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    sampling = Sampling.parse(values, "luhuo chat")
    if message is not None and not sys.stdin.isatty():
        message = "\n\n".join(part for part in (message.strip(), sys.stdin.read().strip()) if part)
    engine = Engine(open_decoder(model, dtype=dtype, device=device, adapter=adapter))
    session = ChatSession(engine, sys.stdout, sampling, system, sys.stderr, plain=plain)
    if message is None:
        session.run(sys.stdin)
    else:
        session.answer(message)


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

    def __init__(
        self,
        engine: Engine,
        stdout: TextIO,
        sampling: Sampling,
        system: str | None,
        notes: TextIO,
        *,
        plain: bool = False,
    ) -> None:
        special = shows_special(engine.tokenizer, tools=False)
        self.engine, self.system = engine, system
        self.sampling = sampling.model_copy(update={"show_special": special})
        self.history: list[Message] = []
        self._screen = Screen(stdout, notes, plain=plain)

    def run(self, stdin: TextIO) -> None:
        """Answer message after message; Ctrl-C stops an answer, and ends the chat at the prompt."""
        if stdin.isatty():
            self._screen.note(tr("Type a message; /help shows the commands.", "请输入消息；/help 查看命令。"))
        for text in messages_of(stdin, self._screen):
            if text.startswith("/") and not text.startswith("//"):
                name, _, rest = text.partition(" ")
                if name in ("/exit", "/quit"):
                    return
                self._attempt(lambda name=name, rest=rest: run_command(self, name, rest.strip()))
            else:
                self._attempt(lambda text=text: self.answer(text.removeprefix("/") if text[:2] == "//" else text))

    def note(self, text: str) -> None:
        """Tell the person something that is no answer."""
        self._screen.note(text)

    def answer(self, text: str) -> str:
        """Stream the answer to a message, and remember both. Raises `LuhuoError` if the message is too long."""
        conversation = self._fitted([*self.history, Message("user", text)])
        prompt = self.engine.prompt_ids(conversation)
        reader = AnswerReader(self.engine.tokenizer, prompt)
        pieces: list[str] = []
        reason = None
        with self._screen.answer() as shown:
            try:
                for chunk in self.engine.stream(prompt, self.sampling):
                    reason = chunk.finish_reason
                    for delta in (reader.push(chunk.text), *([reader.flush()] if reason else [])):
                        pieces.append(delta.content)
                        shown.think(printable(delta.reasoning))
                        shown.say(printable(delta.content))
            except KeyboardInterrupt:
                pieces.append(reader.flush().content)
                reason = "stopped"
        if reason == "stopped":
            self.note(tr("(stopped)", "（已停止）"))
        if reason == "length":
            limit = self.sampling.max_tokens
            self.note(tr(f"(cut off: {limit} tokens or end of context)", f"（已截断：达到 {limit} 词元或上下文末尾）"))
        reply = "".join(pieces)
        kept = conversation.messages[1:] if self.system else conversation.messages
        self.history = [*kept, Message("assistant", reply)]
        return reply

    def _attempt(self, work: Callable[[], object]) -> None:
        """Do something; a mistake in it is told, and the chat goes on."""
        try:
            work()
        except LuhuoError as error:
            self.note(str(error))

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
        self.note(
            tr(
                f"(the context is full: the {taken} oldest messages are forgotten)",
                f"（上下文已满：最早的 {taken} 条消息已被遗忘）",
            )
        )
        return fitting
