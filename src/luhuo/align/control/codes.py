"""Control codes as tokens of their own (CTRL, Keskar et al. 2019): what a person writes stays the line of text.

The chat template turns a line of the system message that is exactly `length: short` into the token `<|length:short|>`,
so that data, chat and server need to know nothing of tokens, and nobody can write such a token but the template.
"""

from __future__ import annotations

import json

from luhuo.align.control.text import FILE, line
from luhuo.align.new_tokens import with_template, with_tokens
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder

START = """\
{%%- set codes = %s -%%}
{%%- if messages and messages[0].role == 'system' and messages[0].content is string -%%}
{%%- set control = namespace(codes='', lines=[]) -%%}
{%%- for line in messages[0].content.split('\\n') -%%}
{%%- if line in codes -%%}{%%- set control.codes = control.codes + codes[line] -%%}
{%%- else -%%}{%%- set control.lines = control.lines + [line] -%%}{%%- endif -%%}
{%%- endfor -%%}
{%%- set opening = {'role': 'system', 'content': control.codes + control.lines | join('\\n')} -%%}
{%%- set messages = [opening] + messages[1:] -%%}
{%%- endif -%%}
"""
"""What goes before a model's own template."""


def with_codes(model: Decoder, folder: str) -> tuple[Decoder, list[int]]:
    """The model with a token for each class of the attributes of `folder` (made by the stage `control`), and a
    template that writes them; and the ids of those that are new. Raises `LuhuoError` for a model without a template.
    """
    codes = read_codes(folder)
    template = model.tokenizer.chat_template if model.tokenizer else None
    if template is None:
        raise LuhuoError(
            tr("Control codes need a chat template to write them.", "控制码需要由对话模板写出。"),
            where="control",
            fix=tr(
                "Add chatml=true, or leave `control` out: its text works too.", "加上 chatml=true，或去掉 control。"
            ),
        )
    model, new = with_tokens(model, list(codes.values()))
    return with_template(model, START % json.dumps(codes, ensure_ascii=False) + template), new


def read_codes(folder: str) -> dict[str, str]:
    """The token for each line of control text. Raises `LuhuoError` for a folder that describes no attributes."""
    file = resolve(folder).path / FILE
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))["attributes"]
        return {line(one["name"], value): f"<|{one['name']}:{value}|>" for one in listed for value in one["classes"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LuhuoError(
            tr("This folder describes no control attributes.", "该目录没有描述控制属性。"),
            expected=FILE,
            found=f"{type(error).__name__}: {error}",
            where=file,
            fix=tr("Name the folder that the stage control made.", "请指定 control 阶段生成的目录。"),
        ) from None
