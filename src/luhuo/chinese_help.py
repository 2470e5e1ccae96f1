"""The words that typer puts around our own, in Chinese: help pages and mistakes on the command line."""

from __future__ import annotations

import re
from typing import Any

MISTAKES = (
    (r"No such command '(.+?)'\.", r"没有这个命令：\1。"),
    (r"No such option: (\S+)", r"没有这个选项：\1。"),
    (r"\(Possible options: (.+)\)", r"可能是：\1。"),
    (r"Did you mean (.+?)\?", r"是不是 \1？"),
    (r"Missing argument '(.+?)'\.", r"缺少参数：\1。"),
    (r"Missing option '(.+?)'\.", r"缺少选项：\1。"),
    (r"Missing command\.", "缺少命令。"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)", r"多余的参数：\1。"),
    (r"Option '(.+?)' requires (?:an|\d+) arguments?\.", r"选项 \1 需要一个值。"),
    (r"Option '(.+?)' does not take a value\.", r"选项 \1 不带值。"),
    (r"Invalid value for '(.+?)': ", r"\1 的值无效："),
    (r"Input should be a valid integer.*", "应为整数。"),
    (r"Input should be a valid number.*", "应为数字。"),
    (r"'(.*?)' is not a valid integer\.", r"“\1”不是整数。"),
    (r"'(.*?)' is not a valid float\.", r"“\1”不是数字。"),
    (r"(?<=[。：]) +", ""),
)


def mistake(message: str) -> str:
    """A message of typer's parser in Chinese; one it does not know stays as it is."""
    for pattern, words in MISTAKES:
        message = re.sub(pattern, words, message)
    return message


def translate(command: Any) -> None:
    """Put a command and those below it into Chinese: usage line, panels, the help option."""
    from typer import rich_utils

    rich_utils.OPTIONS_PANEL_TITLE, rich_utils.ARGUMENTS_PANEL_TITLE = "选项", "参数"
    rich_utils.COMMANDS_PANEL_TITLE, rich_utils.ERRORS_PANEL_TITLE = "命令", "错误"
    rich_utils.REQUIRED_LONG_STRING, rich_utils.DEFAULT_STRING = "[必填]", "[默认：{}]"
    command.subcommand_metavar = "命令 [参数]…"
    root = _translate_one(command, None)
    for below in command.commands.values():
        _translate_one(below, root)


def _translate_one(command: Any, parent: Any) -> Any:
    """Translate one command; the context its help option was made in."""
    command.options_metavar = command.options_metavar and "[选项]"
    command.context_class = _context(command.context_class)
    context = command.make_context(command.name, [], parent=parent, resilient_parsing=True)
    option = command.get_help_option(context)
    if option is not None:
        option.help = "显示本说明并退出。"
    return context


def _context(kind: Any) -> Any:
    """The context class with a formatter that begins the usage line in Chinese."""

    class Formatter(kind.formatter_class):
        def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
            super().write_usage(prog, args, prefix or "用法：")

    return type("Context", (kind,), {"formatter_class": Formatter})
