"""The chat in the terminal, driven through a pipe."""

from __future__ import annotations

import io
from pathlib import Path

from luhuo.inference.chat import ChatSession, chat_loop
from luhuo.inference.chat_screen import Screen, split_blocks
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


def test_several_lines_can_be_one_message():
    chat, _ = session()
    chat.run(io.StringIO('one\\\ntwo\n"""\nthree\n\n/four\n"""\n'))
    assert [m.content for m in chat.history if m.role == "user"] == ["one\ntwo", "three\n\n/four"]


def test_undo_retry_and_settings():
    chat, notes = session()
    first = chat.answer("hello")
    chat.run(io.StringIO("你好\n/undo\n"))
    assert [m.content for m in chat.history] == ["hello", first]
    chat.run(io.StringIO("/set temperature 1\n/set seed 1\n/set max_tokens many\n/set colour 3\n/retry\n"))
    assert len(chat.history) == 2 and chat.history[1].content != first and chat.sampling.seed == 2
    assert "max_tokens" in notes.getvalue() and "no such setting" in notes.getvalue()
    chat.run(io.StringIO("/reset\n/undo\n"))
    assert "nothing to take back" in notes.getvalue()


def test_a_conversation_is_saved_and_loaded(tmp_path: Path):
    chat, _ = session()
    chat.run(io.StringIO(f"/system Be brief.\nhello\n/save {tmp_path}/chat.json\n"))
    again, notes = session()
    again.run(io.StringIO(f"/load {tmp_path}/chat.json\n/load {tmp_path}/none.json\n/tokens\n"))
    assert (again.system, again.history) == ("Be brief.", chat.history)
    assert "no saved conversation" in notes.getvalue() and "of 256 tokens" in notes.getvalue()


def test_blocks_of_markdown_are_final_at_a_blank_line_outside_of_code():
    assert split_blocks("a\n\nb") == ("a", "b")
    assert split_blocks("```\na\n\nb") == ("", "```\na\n\nb")
    assert split_blocks("```\na\n\nb\n```\n\nc") == ("```\na\n\nb\n```", "c")
    assert split_blocks("````\n```\n\n````\n\n") == ("````\n```\n\n````", "")


def test_a_terminal_shows_markdown_and_a_pipe_the_text():
    text = "# Title\n\n- one\n- **two**\n\n```python\nx = 1\n```\n"
    shown = []
    for terminal in (True, False):
        out = Terminal() if terminal else io.StringIO()
        with Screen(out, io.StringIO()).answer() as answer:
            for place in range(0, len(text), 3):
                answer.say(text[place : place + 3])
        shown.append(out.getvalue())
    assert shown[1] == text + "\n"
    assert "• \x1b[0mone" in shown[0] or "• one" in shown[0]
    assert "\x1b[1mtwo" in shown[0] and "```" not in shown[0].splitlines()[-1]


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True
