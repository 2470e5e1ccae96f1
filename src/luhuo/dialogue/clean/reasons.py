"""Why a row of instruction data is dropped."""

# ruff: noqa: E501 (alternatives of a pattern, and a text in two languages, stay on one line)
from __future__ import annotations

REASONS: dict[str, tuple[str, str]] = {
    "unreadable": ("could not be read", "无法读取"),
    "role_order": ("roles out of order", "角色顺序错误"),
    "empty_question": ("nothing is asked", "没有提问"),
    "unanswered": ("the answer is empty, repeats the question, or asks for what is missing", "未作答：为空、重复问题或反问缺失内容"),
    "refusal": ("the answer is a refusal", "拒绝回答"),
    "boilerplate": ("speaks of itself as an AI where nobody asked", "无故以“作为人工智能”开头"),
    "mojibake": ("decoded with the wrong character set", "乱码"),
    "template_text": ("holds control tokens of a chat template", "含有对话模板的控制词元"),
    "truncated": ("the answer ends within a sentence or in open code", "回答被截断"),
    "other_language": ("the answer is in another language", "回答语言与提问不符"),
    "too_short": ("shorter than what was asked for", "比要求的短得多"),
    "toxic": ("the answer is abusive or harmful", "回答有害或辱骂"),
    "duplicate": ("the same question with the same answer", "问答完全重复"),
    "same_question": ("the same question, answered in other words", "同一问题的另一种回答"),
    "near_duplicate": ("nearly the same question and answer", "近似重复"),
    "conflict": ("contradicts another answer to the same question", "与同一问题的其他回答矛盾"),
    "not_helped": ("its instruction does not help to predict the answer (IFD of 1 and more)", "指令对预测回答没有帮助（IFD ≥ 1）"),
    "not_selected": ("not among those chosen", "未被选中"),
}  # fmt: skip
"""By code, in both languages."""
