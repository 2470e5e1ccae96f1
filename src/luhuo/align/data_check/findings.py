"""Findings: what can be wrong with training data, how bad it is, where it was seen, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from luhuo.core.language import tr

Severity = Literal["error", "warning", "note"]
EXAMPLES = 3
"""Examples kept of each kind."""
EXCERPT = 160


@dataclass(frozen=True)
class Kind:
    """One mistake. From a share of `serious` rows on, a warning is an error."""

    severity: Severity
    title: tuple[str, str]
    fix: tuple[str, str]
    serious: float = 2.0


@dataclass(frozen=True)
class Example:
    """Where a mistake was seen."""

    file: str
    line: int
    excerpt: str

    @property
    def where(self) -> str:
        """File and line, the line left out where it says nothing."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Finding:
    """A kind of mistake with its counts and examples."""

    code: str
    severity: Severity
    title: str
    fix: str
    count: int
    rows: int
    examples: tuple[Example, ...]

    @property
    def share(self) -> float:
        """Of the rows."""
        return self.count / self.rows if self.rows else 0.0


@dataclass
class Findings:
    """Counts mistakes and keeps the first examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, code: str, file: str = "", line: int = 0, excerpt: str = "") -> None:
        """Count one mistake of a kind of `KINDS`."""
        assert code in KINDS, code
        self.counts[code] += 1
        kept = self.examples.setdefault(code, [])
        if len(kept) < EXAMPLES:
            kept.append(Example(file, line, " ".join(excerpt.split())[:EXCERPT]))

    def listed(self, rows: int) -> Iterator[Finding]:
        """What was found in `rows` rows: errors first, then by frequency."""
        order = {"error": 0, "warning": 1, "note": 2}
        found = [self._finding(code, count, rows) for code, count in self.counts.items()]
        yield from sorted(found, key=lambda one: (order[one.severity], -one.count, one.code))

    def _finding(self, code: str, count: int, rows: int) -> Finding:
        kind = KINDS[code]
        severity: Severity = "error" if rows and count / rows >= kind.serious else kind.severity
        return Finding(code, severity, tr(*kind.title), tr(*kind.fix), count, rows, tuple(self.examples[code]))


KINDS: dict[str, Kind] = {
    "unreadable": Kind(
        "warning",
        ("rows that cannot be read", "无法读取的行"),
        ("Repair or remove these lines; training leaves them out.", "修复或删除这些行；训练会跳过它们。"),
        serious=0.05,
    ),
    "other_layout": Kind(
        "warning",
        ("rows of another layout than the first", "与首行格式不同的行"),
        ("Keep one layout to a file; training leaves these rows out.", "一个文件只用一种格式；训练会跳过这些行。"),
        serious=0.05,
    ),
    "bad_row": Kind(
        "warning",
        ("rows that are no conversation", "不成对话的行"),
        ("Read the reason beside each; training leaves these rows out.", "查看每行所附原因；训练会跳过这些行。"),
        serious=0.05,
    ),
    "role_order": Kind(
        "warning",
        ("roles out of order", "角色顺序错误"),
        (
            "A chat is an optional system message, then user and assistant in turn, tools behind an assistant.",
            "对话为：可选的 system，然后 user 与 assistant 交替，tool 位于 assistant 之后。",
        ),
        serious=0.05,
    ),
    "nothing_to_learn": Kind(
        "error",
        ("no token of the data is a target", "没有任何训练目标"),
        ("Look at the roles and at `train` or `weight` of the messages.", "检查角色以及消息的 train 或 weight。"),
    ),
    "all_masked": Kind(
        "warning",
        ("rows in which nothing is learned", "没有学习目标的行"),
        ("Remove them, or set `train` of their answers.", "删除它们，或设置其回答的 train。"),
        serious=0.5,
    ),
    "end_not_trained": Kind(
        "error",
        ("the end of a turn is never a target: the assistant would not stop", "轮次结束从不是目标：助手将停不下来"),
        (
            "The chat template must close an assistant's turn with the tokenizer's end-of-turn token.",
            "对话模板须以分词器的轮次结束词元结束 assistant 轮次。",
        ),
    ),
    "pad_is_end": Kind(
        "warning",
        ("the padding token also ends a text or a turn", "填充词元同时也是结束词元"),
        (
            "Harmless here (masks go by position); trainers that mask by token never teach the end. "
            "Give the tokenizer a pad_token of its own.",
            "此处无害（按位置掩码）；但按词元掩码的训练器将学不到结束。请给分词器单独的 pad_token。",
        ),
    ),
    "double_start": Kind(
        "error",
        ("the start-of-text token stands twice", "文本起始词元出现两次"),
        ("Take the token out of the chat template, or out of the data.", "从对话模板或数据中去掉一个起始词元。"),
    ),
    "no_start": Kind(
        "warning",
        ("the template leaves out the start-of-text token the model expects", "模板缺少模型所需的文本起始词元"),
        ("Begin the chat template with {{ bos_token }}.", "让对话模板以 {{ bos_token }} 开头。"),
    ),
    "no_template": Kind(
        "error",
        ("the model has no chat template", "模型没有对话模板"),
        (
            "Train with chatml: true or chat_template: FILE, or with plain: true.",
            "训练时设 chatml: true、chat_template: 文件，或 plain: true。",
        ),
    ),
    "template_refuses": Kind(
        "warning",
        ("conversations that the chat template refuses", "被对话模板拒绝的对话"),
        ("Compare the roles with what the template accepts.", "核对角色与模板所接受的是否一致。"),
        serious=0.05,
    ),
    "message_dropped": Kind(
        "error",
        ("messages that the chat template leaves out", "被对话模板丢弃的消息"),
        ("Give the model a template that writes every role of the data.", "换用会写出数据中每种角色的模板。"),
    ),
    "tools_dropped": Kind(
        "error",
        ("tools that the chat template leaves out", "被对话模板丢弃的工具"),
        ("Give the model a template that writes tools and tool calls.", "换用会写出工具与工具调用的模板。"),
    ),
    "empty_answer": Kind(
        "warning",
        ("empty answers", "空回答"),
        ("Remove these rows; training leaves them out.", "删除这些行；训练会跳过它们。"),
        serious=0.05,
    ),
    "empty_question": Kind(
        "warning",
        ("empty questions", "空提问"),
        ("Remove these rows.", "删除这些行。"),
        serious=0.05,
    ),
    "cut_off": Kind(
        "warning",
        ("answers that seem cut off", "疑似被截断的回答"),
        ("Generate them again with more tokens, or remove them.", "以更大的词元上限重新生成，或删除。"),
        serious=0.3,
    ),
    "duplicate": Kind(
        "warning",
        ("rows that repeat an earlier one", "与先前重复的行"),
        ("Keep one of each; give a set a `weight` to see it more often.", "每条只留一份；想多看几遍请用 weight。"),
        serious=0.5,
    ),
    "near_duplicate": Kind(
        "warning",
        ("rows that nearly repeat an earlier one", "与先前近似重复的行"),
        (
            "Keep one of each group, unless the small differences are the point.",
            "每组只留一条，除非细微差别正是目的。",
        ),
    ),
    "same_question": Kind(
        "note",
        ("questions that come again with another answer", "同一问题的不同回答"),
        ("Fine for variety; for facts, keep the right answer.", "作为多样性无妨；若是事实，请只留正确答案。"),
    ),
    "leak": Kind(
        "error",
        ("questions of the evaluation set", "评测集中的题目"),
        (
            "Remove them from the training data, or the evaluation says nothing.",
            "从训练数据中删除，否则评测失去意义。",
        ),
    ),
    "special_text": Kind(
        "warning",
        ("texts that contain another template's control tokens", "含有模板控制词元的文本"),
        (
            "They were rendered already: train on the messages themselves. Here such text is only text.",
            "数据似已被渲染过：请用原始消息训练。此处这类文本只按普通文字处理。",
        ),
    ),
    "other_language": Kind(
        "warning",
        ("answers in another language than their question", "与提问语言不同的回答"),
        ("Remove them unless that is wanted.", "若非有意，请删除。"),
    ),
    "mojibake": Kind(
        "warning",
        ("texts decoded with the wrong character set", "乱码文本"),
        ("Decode the source again, with its own character set.", "用正确的字符集重新解码来源。"),
        serious=0.05,
    ),
    "unknown_tokens": Kind(
        "warning",
        ("rows with characters that the tokenizer does not know", "含分词器未知字符的行"),
        ("Use a tokenizer that covers the language.", "换用覆盖该语言的分词器。"),
        serious=0.1,
    ),
    "overlong": Kind(
        "warning",
        ("conversations longer than a row", "超过一行长度的对话"),
        (
            "Raise `length` (and stretch the context with `rope`), or accept that they are shortened.",
            "增大 length（可用 rope 拉长上下文），或接受截断。",
        ),
        serious=0.5,
    ),
    "boilerplate": Kind(
        "warning",
        ("answers with one and the same text", "千篇一律的回答"),
        ("Keep a few of them.", "只保留少量。"),
    ),
    "reversed_pair": Kind(
        "error",
        ("pairs that another pair contradicts", "互相矛盾的偏好对"),
        ("Keep the judgement you trust.", "保留可信的那个判断。"),
    ),
    "longer_wins": Kind(
        "note",
        ("the longer answer is nearly always the chosen one", "较长的回答几乎总被选中"),
        (
            "Length alone would explain the choice: add pairs in which the shorter one wins.",
            "仅凭长度即可解释选择：请补充短回答胜出的样本对。",
        ),
    ),
    "shorter_wins": Kind(
        "note",
        ("the shorter answer is nearly always the chosen one", "较短的回答几乎总被选中"),
        (
            "Length alone would explain the choice: add pairs in which the longer one wins.",
            "仅凭长度即可解释选择：请补充长回答胜出的样本对。",
        ),
    ),
    "one_label": Kind(
        "error",
        ("all answers have the same label", "所有回答的标签相同"),
        (
            "Add answers with the other label: there is nothing to tell apart.",
            "请补充另一种标签的回答：否则无从区分。",
        ),
    ),
}
"""By code."""
