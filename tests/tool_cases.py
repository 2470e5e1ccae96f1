"""Tools, and calls of them as texts that are read in pieces, for the tests of calls and of forced calls."""

from __future__ import annotations

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
WRITTEN = {
    "hermes": '我查一下。\n<tool_call>\n{"name": "weather", "arguments": {"city": "北京", "days": 2}}\n</tool_call>\n'
    '<tool_call>{"name": "now", "arguments": {}}</tool_call>',
    "qwen-coder": "我查一下。\n<tool_call>\n<function=weather>\n<parameter=city>\n北京\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "glm": "我查一下。<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>北京</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call><tool_call>now\n</tool_call>",
    "mistral": '我查一下。[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "北京", "days": 2}}, '
    '{"name": "now", "arguments": {}}]',
    "deepseek": "我查一下。<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
    '{"city": "北京", "days": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>'
    "<｜tool▁calls▁end｜>",
}
