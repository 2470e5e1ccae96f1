"""The slash commands of `luhuo chat`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.inference.sampling import Sampling

if TYPE_CHECKING:
    from luhuo.inference.chat import ChatSession

SETTINGS = ("temperature", "max_tokens", "top_p", "top_k", "min_p", "seed", "repetition_penalty")


def run_command(chat: ChatSession, name: str, rest: str) -> None:
    """Carry out a command other than /exit. Raises `LuhuoError` for one that cannot be."""
    commands = {
        "/reset": _reset,
        "/system": _system,
        "/undo": _undo,
        "/retry": _retry,
        "/set": _set,
        "/save": _save,
        "/load": _load,
        "/tokens": _tokens,
    }
    if name in commands:
        commands[name](chat, rest)
        return
    if name != "/help":
        chat.note(tr(f"There is no command {name}.", f"没有命令 {name}。"))
    chat.note(
        tr(
            "/reset  forget the conversation\n/system TEXT  set the system prompt (empty: none)\n"
            "/undo  take the last exchange back\n/retry  answer the last message again\n"
            "/set NAME VALUE  change a setting (alone: show them)\n/save FILE, /load FILE  keep the conversation\n"
            "/tokens  how full the context is\n/exit  end (also Ctrl-D)\n//text  a message that begins with a slash\n"
            'a line that ends with \\ goes on; """ begins and ends a message of several lines',
            "/reset  清空对话\n/system 文本  设置系统提示（留空则移除）\n"
            "/undo  撤回上一轮\n/retry  重新回答上一条消息\n"
            "/set 名称 值  修改设置（不带参数则显示）\n/save 文件、/load 文件  保存或载入对话\n"
            "/tokens  查看上下文占用\n/exit  结束（或 Ctrl-D）\n//文本  以斜杠开头的消息\n"
            '行尾为 \\ 表示续行；以 """ 开始和结束多行消息',
        )
    )


def _reset(chat: ChatSession, _: str) -> None:
    chat.history = []
    chat.note(tr("The history is empty again.", "历史已清空。"))


def _system(chat: ChatSession, rest: str) -> None:
    chat.system, chat.history = rest or None, []
    chat.note(
        tr("New system prompt; the history is empty again.", "系统提示已更新，历史已清空。")
        if chat.system
        else tr("No system prompt; the history is empty again.", "系统提示已移除，历史已清空。")
    )


def _undo(chat: ChatSession, _: str) -> None:
    question = _take_back(chat)
    chat.note(tr(f"Taken back: {question[:60]}", f"已撤回：{question[:60]}"))


def _retry(chat: ChatSession, _: str) -> None:
    """Answer the last message again, with the next seed: the same one would say the same."""
    question = _take_back(chat)
    if chat.sampling.seed is not None:
        chat.sampling = chat.sampling.model_copy(update={"seed": chat.sampling.seed + 1})
    chat.answer(question)


def _take_back(chat: ChatSession) -> str:
    if len(chat.history) < 2:
        raise LuhuoError(tr("There is nothing to take back.", "没有可撤回的内容。"))
    question = chat.history[-2].content
    chat.history = chat.history[:-2]
    return question


def _set(chat: ChatSession, rest: str) -> None:
    name, _, value = rest.partition(" ")
    if not name:
        chat.note("\n".join(f"{one} {getattr(chat.sampling, one)}" for one in SETTINGS))
        return
    if name not in SETTINGS or not value.strip():
        raise LuhuoError(
            tr("There is no such setting, or it needs a value.", "没有这个设置，或缺少值。"),
            expected=", ".join(SETTINGS),
        )
    chat.sampling = Sampling.parse(chat.sampling.model_dump() | {name: value.strip()}, "/set")
    chat.note(f"{name} {getattr(chat.sampling, name)}")


def _save(chat: ChatSession, rest: str) -> None:
    opening = [Message("system", chat.system)] if chat.system else []
    messages = [*opening, *chat.history]
    if not messages or not rest:
        raise LuhuoError(
            tr("Nothing to save, or no file named.", "没有可保存的内容，或未给出文件名。"), expected="/save FILE"
        )
    try:
        write_json(Path(rest).expanduser(), {"messages": Conversation(tuple(messages)).plain()})
    except OSError as error:
        raise LuhuoError(
            tr("The file cannot be written.", "无法写入文件。"), found=error.strerror, where=rest
        ) from None
    chat.note(tr(f"Saved {len(messages)} messages.", f"已保存 {len(messages)} 条消息。"))


def _load(chat: ChatSession, rest: str) -> None:
    try:
        values = json.loads(Path(rest).expanduser().read_text(encoding="utf-8"))
        messages = Conversation.of(values["messages"]).messages
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LuhuoError(
            tr("This is no saved conversation.", "这不是已保存的对话。"), found=error, where=rest
        ) from None
    opening = messages[0].content if messages[0].role == "system" else None
    chat.system, chat.history = opening, list(messages[1:] if opening is not None else messages)
    if chat.history and chat.history[-1].role == "user":
        chat.history.pop()
    chat.note(tr(f"Loaded {len(chat.history)} messages.", f"已载入 {len(chat.history)} 条消息。"))


def _tokens(chat: ChatSession, _: str) -> None:
    opening = [Message("system", chat.system)] if chat.system else []
    messages = (*opening, *chat.history)
    used = len(chat.engine.prompt_ids(Conversation(messages))) if chat.history else 0
    chat.note(tr(f"{used} of {chat.engine.context} tokens", f"已用 {used} / {chat.engine.context} 词元"))
