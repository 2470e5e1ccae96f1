"""Chat templates of the shapes that well-known models use, written for these tests."""

from __future__ import annotations

CHATML = """\
{%- for m in messages -%}
{{- '<|im_start|>' ~ m['role'] ~ '\\n' ~ m['content'] ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""

CHATML_WITH_A_SYSTEM_OF_ITS_OWN = (
    """\
{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif -%}
"""
    + CHATML
)

INST = """\
{%- if messages[0].role == 'system' -%}
{%- set opening = '<<SYS>>\\n' ~ messages[0].content ~ '\\n<</SYS>>\\n\\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set opening = '' -%}{%- set turns = messages -%}{%- endif -%}
{%- for m in turns -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
{%- if m.role == 'user' -%}
{{- bos_token ~ '[INST] ' ~ (opening if loop.first else '') ~ m.content.strip() ~ ' [/INST]' -}}
{%- else -%}{{- ' ' ~ m.content.strip() ~ ' ' ~ eos_token -}}{%- endif -%}
{%- endfor -%}
"""

HEADERS = """\
{{- bos_token -}}
{%- if date is not defined %}{% set date = strftime_now('%d %b %Y') %}{% endif -%}
{%- if messages[0]['role'] != 'system' -%}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' ~ date ~ '<|eot_id|>' -}}
{%- endif -%}
{%- for m in messages -%}
{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif -%}
"""

TURNS_WITHOUT_SYSTEM = """\
{{- bos_token -}}
{%- set ns = namespace(lead='') -%}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{%- set ns.lead = m.content | trim ~ '\\n\\n' -%}{%- continue -%}{%- endif -%}
{%- set role = 'model' if m.role == 'assistant' else m.role -%}
{{- '<start_of_turn>' ~ role ~ '\\n' ~ (ns.lead if role == 'user' else '') ~ m.content | trim ~ '<end_of_turn>\\n' -}}
{%- if role == 'user' %}{% set ns.lead = '' %}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
"""

TOOLS = """\
{%- set last = (messages | map(attribute='role') | list | length) - 1 -%}
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{%- if tools is not none and loop.index0 == last -%}
{{- '[AVAILABLE_TOOLS] [' -}}
{%- for t in tools -%}{{- t | tojson -}}{{- ', ' if not loop.last -}}{%- endfor -%}
{{- '][/AVAILABLE_TOOLS]' -}}
{%- endif -%}
{{- '[INST] ' ~ m.content ~ '[/INST]' -}}
{%- elif m.role == 'assistant' and m.tool_calls is defined and m.tool_calls -%}
{{- '[TOOL_CALLS] [' -}}
{%- for c in m.tool_calls -%}
{{- {'name': c.function.name, 'arguments': c.function.arguments} | tojson -}}{{- ', ' if not loop.last -}}
{%- endfor -%}
{{- ']' ~ eos_token -}}
{%- elif m.role == 'assistant' -%}{{- ' ' ~ m.content ~ eos_token -}}
{%- elif m.role == 'tool' -%}{{- '[TOOL_RESULTS] ' ~ {'content': m.content} | tojson ~ '[/TOOL_RESULTS]' -}}
{%- else -%}{{ raise_exception('no place for ' ~ m.role) }}
{%- endif -%}
{%- endfor -%}
"""

REASONING_CUT = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- m.content -}}
{%- elif m.role == 'user' -%}{{- '<｜User｜>' ~ m.content -}}
{%- else -%}
{%- set text = m.content.split('</think>')[-1] if '</think>' in m.content else m.content -%}
{{- '<｜Assistant｜>' ~ text ~ '<｜end▁of▁sentence｜>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif -%}
"""

THINKING_IN_THE_LAST_TURN = """\
{%- for m in messages -%}
{{- '<|im_start|>' ~ m.role ~ '\\n' -}}
{%- if m.role == 'assistant' -%}
{%- set parts = m.content.split('</think>') -%}
{%- set thought = parts[0].split('<think>')[-1].strip() if parts | length > 1 else '' -%}
{%- if loop.last %}{{ '<think>\\n' ~ thought ~ '\\n</think>\\n\\n' }}{% endif -%}
{{- parts[-1].lstrip('\\n') -}}
{%- else -%}{{- m.content -}}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""

NEVER_CLOSED = """\
{{- '[gMASK]<sop>' -}}
{%- for m in messages -%}{{- '<|' ~ m.role ~ '|>\\n' ~ m.content -}}{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}
{#- the roles are <|user|>, <|observation|> -#}
{%- if false %}{{ '<|user|><|observation|>' }}{% endif -%}
"""

END_OF_TEXT_BEHIND_THE_LAST_TURN = """\
{{- bos_token -}}
{%- for m in messages %}{{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '<|end|>\\n' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif -%}
"""

ROLE_LINES = """\
{%- for m in messages %}{{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ eos_token ~ '\\n' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
"""

NAMES = """\
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- m.content ~ ' ' -}}
{%- elif m.role == 'user' -%}{{- 'USER: ' ~ m.content ~ ' ' -}}
{%- else -%}{{- 'ASSISTANT: ' ~ m.content ~ eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif -%}
"""

INSTRUCTION = """\
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- m.content ~ '\\n\\n' -}}
{%- elif m.role == 'user' -%}{{- '### Instruction:\\n' ~ m.content ~ '\\n\\n' -}}
{%- else -%}{{- '### Response:\\n' ~ m.content ~ eos_token ~ '\\n\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '### Response:\\n' }}{% endif -%}
"""

MARKED = """\
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}{%- generation -%}{{- m.content ~ '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
{%- else -%}{{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""

ALL = {
    "chatml": CHATML,
    "chatml-system": CHATML_WITH_A_SYSTEM_OF_ITS_OWN,
    "inst": INST,
    "headers": HEADERS,
    "turns": TURNS_WITHOUT_SYSTEM,
    "tools": TOOLS,
    "reasoning-cut": REASONING_CUT,
    "thinking": THINKING_IN_THE_LAST_TURN,
    "never-closed": NEVER_CLOSED,
    "text-end": END_OF_TEXT_BEHIND_THE_LAST_TURN,
    "role-lines": ROLE_LINES,
    "names": NAMES,
    "instruction": INSTRUCTION,
    "marked": MARKED,
}

SPECIAL = (
    "<s> </s> <|im_start|> <|im_end|> <|start_header_id|> <|end_header_id|> <|eot_id|> <start_of_turn> <end_of_turn> "
    "[INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS] [/TOOL_RESULTS] "
    "<｜end▁of▁sentence｜> [gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|> <|end|> <|endoftext|>"
)
"""The special tokens of all of them."""

NOT_SPECIAL = ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")
"""Added tokens that published files do not mark special."""
