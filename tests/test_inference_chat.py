"""The chat in the terminal, driven through a pipe."""

from __future__ import annotations

import io

from luhuo.inference.chat import ChatSession, chat_loop
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from tests.small_chat import small_model

SAMPLING = Sampling(max_tokens=8, temperature=0)


def talk(*lines: str, system: str | None = None) -> tuple[list[str], str]:
    """Answers and notes for the lines typed."""
    out, notes = io.StringIO(), io.StringIO()
    text = "".join(f"{line}\n" for line in lines)
    chat_loop(Engine(small_model()), io.StringIO(text), out, sampling=SAMPLING, system=system, notes=notes)
    return out.getvalue().split("\n"), notes.getvalue()


def session() -> tuple[ChatSession, io.StringIO]:
    notes = io.StringIO()
    return ChatSession(Engine(small_model()), io.StringIO(), SAMPLING, None, notes), notes


def test_an_answer_is_what_the_engine_says_with_the_history():
    chat, _ = session()
    first, second = chat.answer("hello"), chat.answer("你好")
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "你好"},
    ]
    assert second == chat.engine.chat(messages, SAMPLING).text
    assert [m.content for m in chat.history] == ["hello", first, "你好", second]


def test_a_pipe_carries_answers_and_notes_go_elsewhere():
    answers, notes = talk("hello", "/help", "/nonsense", "/exit", "never")
    assert "/reset" in notes and "/nonsense" in notes
    assert not any("/reset" in line for line in answers)
    assert talk("hello")[0] == answers


def test_reset_forgets_the_history():
    chat, notes = session()
    chat.run(io.StringIO("hello\n/reset\n"))
    assert chat.history == [] and "empty again" in notes.getvalue()


def test_system_sets_the_system_prompt_and_starts_anew():
    chat, _ = session()
    chat.run(io.StringIO("hello\n/system Be brief.\nhow are you\n"))
    assert chat.system == "Be brief." and len(chat.history) == 2
    expected = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "how are you"}]
    assert chat.history[-1].content == chat.engine.chat(expected, SAMPLING).text


def test_two_slashes_send_a_message_that_begins_with_one():
    chat, _ = session()
    chat.run(io.StringIO("//help\n"))
    assert chat.history[0].content == "/help"


def test_a_full_context_forgets_whole_turns_and_says_so():
    chat, notes = session()
    for _ in range(12):
        chat.answer("how are you today")
    assert "oldest messages are forgotten" in notes.getvalue()
    assert chat.history[0].role == "user" and len(chat.history) % 2 == 0


def test_a_message_longer_than_the_context_is_named_and_the_chat_goes_on():
    answers, notes = talk("x" * 600, "hello")
    assert "too long" in notes and talk("hello")[0] == answers
