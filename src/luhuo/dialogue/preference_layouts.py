"""Layouts of preference data: TRL's, and what OpenAI, LLaMA-Factory, ms-swift, UltraFeedback and HH-RLHF write.

The chat page's feedback files are TRL's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.judged import Judged, Preference, Ranking, Scored, Stepwise, Unpaired
from luhuo.dialogue.layouts import alpaca_turns, answer_of, context, is_text, prompt_of, tools_of, turns_of
from luhuo.dialogue.rows import Layout, Row, unpacked

Turns = list[Row]

SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen_rating", "rejected_rating"))
"""Columns whose difference is the margin where there is no `margin`."""
CONTENT = frozenset(
    ("prompt", "messages", "conversations", "instruction", "input", "output", "history", "system", "tools")
) | {
    "preferred_output",
    "non_preferred_output",
    "chosen",
    "rejected",
    "completion",
    "completions",
    "answers",
    "ranks",
    "label",
    "labels",
    "kto_tag",
    "rejected_response",
}
"""Columns that become the conversation; the others are `meta`."""
HH_START = re.compile(r"\s*Human:")
HH_TURNS = re.compile(r"(?:^|\n\n)\s*(Human|Assistant):")
"""How the first preference sets write a dialogue as one text (Bai et al. 2022)."""
VERDICTS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}
MOST_ANSWERS = 16
"""Answers of one ranking: each pair of them is a comparison."""


def prompt_conversation(turns: Turns, row: Row) -> Conversation:
    """A prompt with the row's tools, none of it to be learned. `LuhuoError` unless an answer can follow."""
    known = {key: row[key] for key in ("id", "family", "lang") if key in row}
    asked = Conversation.of(turns, tools=tools_of(row), **known)
    if asked.messages[-1].role not in ("user", "tool"):
        raise LuhuoError(
            tr("The prompt does not end where an answer is to come.", "提示没有停在等待回答之处。"),
            expected="user | tool",
            found=asked.messages[-1].role,
        )
    return Conversation(context(asked.messages), asked.meta, asked.tools)


def split_answer(turns: Turns) -> tuple[Turns, Turns]:
    """A whole conversation cut before its last answer, which may have called tools on the way."""
    end = max((i for i, turn in enumerate(turns) if turn.get("role") == "user"), default=-1) + 1
    return turns[:end], turns[end:]


def _pair(row: Row, prompt: Turns, chosen: Turns, rejected: Turns) -> Preference:
    """A pair, checked. Raises `LuhuoError` when there is nothing to choose between."""
    asked = prompt_conversation(prompt, row)
    good, bad = (_following(asked, answer) for answer in (chosen, rejected))
    if [_said(m) for m in good] == [_said(m) for m in bad]:
        raise LuhuoError(tr("Both answers are equal.", "两个回答相同。"))
    if not any(m.content.strip() or m.tool_calls for m in good):
        raise LuhuoError(tr("The chosen answer is empty.", "被选中的回答为空。"))
    return Preference(asked, good, bad, _margin(row), _meta(row))


def _following(prompt: Conversation, answer: Turns) -> tuple[Message, ...]:
    """The messages of an answer. Raises `LuhuoError` if there are none, or they cannot follow the prompt."""
    if not answer:
        raise LuhuoError(tr("There is no answer.", "没有回答。"))
    return Conversation.of([*prompt.messages, *answer]).messages[len(prompt.messages) :]


def _said(message: Message) -> tuple[Any, ...]:
    return message.role, message.content, message.tool_calls


def _margin(row: Row) -> float | None:
    """By how much one answer is better: a column of its own, or the difference of two scores."""
    candidates = [_number(row.get("margin"))]
    for better, worse in SCORES:
        first, second = _number(row.get(better)), _number(row.get(worse))
        candidates.append(None if first is None or second is None else first - second)
    return next((margin for margin in candidates if margin is not None), None)


def _number(value: Any) -> float | None:
    """A finite number, also written as text (as CSV files hold it)."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _meta(row: Row) -> dict[str, Any]:
    return {str(key): value for key, value in row.items() if key not in CONTENT}


def _side(value: Any) -> Turns:
    """An answer, or a whole dialogue, as messages: text, one message, a list, or HH-RLHF's one text."""
    return _hh(value) if isinstance(value, str) and HH_START.match(value) else answer_of(value)


def _hh(text: str) -> Turns:
    """The turns of HH-RLHF's text; a last turn that is only announced is left out."""
    parts = HH_TURNS.split(text)[1:]
    named = {"Human": "user", "Assistant": "assistant"}
    turns: Turns = [
        {"role": named[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    return turns[:-1] if turns and not turns[-1]["content"] and turns[-1]["role"] == "assistant" else turns


def _explicit(row: Row) -> Preference:
    """A prompt and two answers. Some sets (UltraFeedback) write the prompt once more into both answers."""
    given = row["prompt"]
    prompt = _hh(given) if isinstance(given, str) and HH_START.match(given) else prompt_of(given, row.get("system"))
    chosen, rejected = _side(row["chosen"]), _side(row["rejected"])
    if not chosen or not rejected or chosen[0].get("role") == "assistant":
        return _pair(row, prompt, chosen, rejected)
    if all(turn.get("role") == "system" for turn in prompt):
        return _implicit(row, [*prompt, *chosen], [*prompt, *rejected])
    if prompt[-1].get("content") not in [turn.get("content") for turn in chosen]:
        raise LuhuoError(
            tr("The answers repeat another prompt than the one given.", "回答中重复的提示与所给的提示不同。")
        )
    return _implicit(row, chosen, rejected)


def _implicit(row: Row, chosen: Turns, rejected: Turns) -> Preference:
    """Two dialogues with a common beginning, which is the prompt up to its last user or tool message."""
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if (one.get("role"), one.get("content")) != (other.get("role"), other.get("content")):
            break
        shared += 1
    while shared and chosen[shared - 1].get("role") not in ("user", "tool"):
        shared -= 1
    if not shared:
        raise LuhuoError(
            tr("The two dialogues have no prompt in common.", "两段对话没有共同的提示。"),
            fix=tr("Give the prompt as `prompt`.", "请用 prompt 字段给出提示。"),
        )
    return _pair(row, chosen[:shared], chosen[shared:], rejected[shared:])


def _openai(row: Row) -> Preference:
    asked = row["input"]
    row = {**row, **({"tools": asked["tools"]} if "tools" in asked else {})}
    return _pair(row, turns_of(asked["messages"]), _side(row["preferred_output"]), _side(row["non_preferred_output"]))


def _messages(row: Row) -> Preference:
    return _pair(row, turns_of(row["messages"]), _side(row["chosen"]), _side(row["rejected"]))


def _sharegpt(row: Row) -> Preference:
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    prompt = [*system, *turns_of(row["conversations"])]
    return _pair(row, prompt, _side(row["chosen"]), _side(row["rejected"]))


def _alpaca(row: Row) -> Preference:
    return _pair(row, alpaca_turns(row), _side(row["chosen"]), _side(row["rejected"]))


def _swift(row: Row) -> Preference:
    prompt, chosen = split_answer(turns_of(row["messages"]))
    return _pair(row, prompt, chosen, _side(row["rejected_response"]))


def _judged(row: Row, prompt: Turns, answer: Turns, verdict: Any) -> tuple[Unpaired, ...]:
    asked = prompt_conversation(prompt, row)
    return (Unpaired(asked, _following(asked, answer), _verdict(verdict), _meta(row)),)


def _verdict(value: Any) -> bool:
    """True or false. Raises `LuhuoError` for anything that does not clearly say so."""
    found = value if isinstance(value, bool) else VERDICTS.get(str(value).strip().lower())
    if found is None:
        raise LuhuoError(
            tr("The label says neither good nor bad.", "标签既不是好也不是坏。"),
            expected="true | false",
            found=repr(value)[:80],
        )
    return found


def _unpaired(row: Row) -> tuple[Unpaired, ...]:
    return _judged(row, prompt_of(row["prompt"], row.get("system")), _side(row["completion"]), row["label"])


def _unpaired_messages(row: Row) -> tuple[Unpaired, ...]:
    turns = turns_of(row["messages"] if "messages" in row else row["conversations"])
    return _judged(row, *split_answer(turns), row["kto_tag"] if "kto_tag" in row else row["label"])


def _unpaired_alpaca(row: Row) -> tuple[Unpaired, ...]:
    return _judged(row, alpaca_turns(row), answer_of(row["output"]), row["kto_tag"])


def _ranking(row: Row) -> Ranking:
    answers, ranks = unpacked(row["answers"]), unpacked(row["ranks"])
    places = [_number(rank) for rank in ranks] if isinstance(ranks, list) else []
    known = [place for place in places if place is not None]
    if not isinstance(answers, list) or not 2 <= len(answers) == len(places) == len(known) <= MOST_ANSWERS:
        raise LuhuoError(
            tr("Each answer of a ranking has one rank.", "排序中每个回答都应有一个名次。"),
            expected=tr(f"2 to {MOST_ANSWERS} answers", f"2 到 {MOST_ANSWERS} 个回答"),
            found=repr(row["ranks"])[:80],
        )
    asked = prompt_conversation(prompt_of(row["prompt"], row.get("system")), row)
    return Ranking(asked, tuple(_following(asked, _side(answer)) for answer in answers), tuple(known), _meta(row))


def _scored(row: Row) -> Scored:
    if (score := _number(row["score"])) is None:
        raise LuhuoError(tr("The score is no number.", "得分不是数字。"), found=repr(row["score"])[:80])
    asked = prompt_conversation(prompt_of(row["prompt"], row.get("system")), row)
    return Scored(asked, _following(asked, _side(row["completion"])), score, _meta(row))


def _stepwise(row: Row) -> Stepwise:
    steps, labels = unpacked(row["completions"]), unpacked(row["labels"])
    fits = isinstance(steps, list) and isinstance(labels, list) and len(steps) == len(labels) > 0
    if not fits or not all(isinstance(step, str) for step in steps):
        raise LuhuoError(
            tr("Each step is a text with one label.", "每一步都应是带一个标签的文本。"),
            expected='{"prompt": …, "completions": ["…", "…"], "labels": [true, false]}',
        )
    asked = prompt_conversation(prompt_of(row["prompt"], row.get("system")), row)
    return Stepwise(asked, tuple(steps), tuple(_verdict(label) for label in labels), _meta(row))


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(name in row for name in names)


def _once(layout: Layout[tuple[Unpaired, ...]]) -> Layout[Judged]:
    """A layout of one judged answer a row, as that answer."""
    return Layout(layout.name, layout.keys, layout.fits, lambda row: layout.convert(row)[0], layout.means)


def _twice(layout: Layout[Preference]) -> Layout[tuple[Unpaired, ...]]:
    """The pairs of a layout as single answers."""
    return Layout(layout.name, layout.keys, layout.fits, lambda row: layout.convert(row).unpaired(), layout.means)


PREFERENCES: tuple[Layout[Preference], ...] = (
    Layout("openai-preference", "input, preferred_output, …", _has("input", "preferred_output"), _openai),
    Layout("sharegpt-preference", "conversations, chosen, rejected", _has("conversations", "chosen"), _sharegpt),
    Layout("messages-preference", "messages, chosen, rejected", _has("messages", "chosen", "rejected"), _messages),
    Layout("swift-preference", "messages, rejected_response", _has("messages", "rejected_response"), _swift),
    Layout("alpaca-preference", "instruction, chosen, rejected", _has("instruction", "chosen", "rejected"), _alpaca),
    Layout(
        "preference",
        "prompt, chosen, rejected",
        _has("prompt", "chosen", "rejected"),
        _explicit,
        lambda row: all(is_text(row[name]) for name in ("prompt", "chosen", "rejected")),
    ),
    Layout(
        "preference-messages",
        "prompt [{role, content}], chosen, rejected",
        _has("prompt", "chosen", "rejected"),
        _explicit,
    ),
    Layout(
        "preference-implicit",
        "chosen [{role, content}], rejected [{role, content}]",
        _has("chosen", "rejected"),
        lambda row: _implicit(row, _side(row["chosen"]), _side(row["rejected"])),
    ),
)

SINGLE: tuple[Layout[tuple[Unpaired, ...]], ...] = (
    Layout("unpaired-preference", "prompt, completion, label", _has("prompt", "completion", "label"), _unpaired),
    Layout(
        "messages-unpaired",
        "messages, label (true or false)",
        lambda row: "messages" in row and ("label" in row or "kto_tag" in row),
        _unpaired_messages,
        lambda row: str(row.get("kto_tag", row.get("label"))).lower() in VERDICTS,
    ),
    Layout("sharegpt-unpaired", "conversations, kto_tag", _has("conversations", "kto_tag"), _unpaired_messages),
    Layout(
        "alpaca-unpaired", "instruction, output, kto_tag", _has("instruction", "output", "kto_tag"), _unpaired_alpaca
    ),
)

UNPAIRED = (*SINGLE, *(_twice(layout) for layout in PREFERENCES))
"""Judged answers, and pairs as two of them."""

STEPWISE: tuple[Layout[Stepwise], ...] = (
    Layout("stepwise", "prompt, completions, labels", _has("prompt", "completions", "labels"), _stepwise),
)

RANKINGS: tuple[Layout[Ranking], ...] = (
    Layout("ranking", "prompt, answers, ranks", _has("prompt", "answers", "ranks"), _ranking),
)

JUDGED: tuple[Layout[Judged], ...] = (
    *RANKINGS,
    *STEPWISE,
    *PREFERENCES,
    *(_once(layout) for layout in SINGLE),
    Layout("scored", "prompt, completion, score", _has("prompt", "completion", "score"), _scored),
)
"""All judgements, the ones that say more first."""
