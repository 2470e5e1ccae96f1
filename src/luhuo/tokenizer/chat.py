"""Special tokens and the chat template (ChatML) of tokenizers born here."""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
UNKNOWN = "<|unk|>"
"""Only for the kinds that cannot write every byte (WordPiece)."""

RESERVED = tuple(f"<|reserved_{i}|>" for i in range(12))
"""Free places for later roles, tools and images, so that the vocabulary need not grow after training."""

SPECIAL_TOKENS = (END_OF_TEXT, PAD, TURN_START, TURN_END, *RESERVED)
"""They take the first ids, in this order."""

CHAT_TEMPLATE = """\
{%- macro text(content) -%}
{%- if content is string -%}{{ content }}
{%- elif content -%}{%- for part in content -%}{{ part.text or '' }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set turns = messages -%}
{%- if tools -%}
{%- set opening = text(messages[0].content) + '\\n\\n' if messages and messages[0].role == 'system' else '' -%}
{%- if opening -%}{%- set turns = messages[1:] -%}{%- endif -%}
{{- '<|im_start|>system\\n' + opening + 'Tools, one JSON schema a line:\\n' -}}
{%- for tool in tools -%}{{ tool | tojson + '\\n' }}{%- endfor -%}
{{- 'To call one, answer with <tool_call>{"name": …, "arguments": {…}}</tool_call>.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in turns -%}
{{- '<|im_start|>' + message.role + '\\n' + text(message.content) -}}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function or call -%}
{{- '\\n' if not loop.first or message.content else '' -}}
{{- '<tool_call>' + {'name': function.name, 'arguments': function.arguments} | tojson + '</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""Jinja text. Variables: messages (role, content, tool_calls), tools, add_generation_prompt."""
