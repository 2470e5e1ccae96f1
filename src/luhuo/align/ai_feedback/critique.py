"""The stage `constitutional`: answers, critiques, revisions, a principle drawn by chance for each round.

Critique and revision are turns of one conversation, so that any chat model can write them. What an answer became in
each round is kept; a row whose chain broke off is kept with the reason.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

from luhuo.align.ai_feedback.config import ResponderConfig
from luhuo.align.ai_feedback.constitution import WORDS, Constitution, language_asked, read_constitution
from luhuo.align.ai_feedback.data import Outputs, prompts
from luhuo.align.ai_feedback.responders import THOUGHT, NoReply, Question, Reply, Responder, opened
from luhuo.align.ledger import Ledger, groups
from luhuo.core.artifact import Workspace
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.core.seeds import derive_seed

if TYPE_CHECKING:
    from luhuo.align.ai_feedback.stages import ConstitutionalStage

CHAINS = "chains.jsonl"


def run_constitutional(stage: ConstitutionalStage, out: Workspace) -> None:
    """Write `chains.jsonl` (everything), `conversations.jsonl`, `pairs.jsonl` and `failed.jsonl` into `out`."""
    principles = read_constitution(stage.constitution)
    ledger = Ledger(out.path / CHAINS)
    with ExitStack() as stack:
        responder = stack.enter_context(opened(stage.responder))
        critic = stack.enter_context(opened(stage.critic)) if stage.critic else responder
        rows = islice(enumerate(prompts(stage.prompts, stage.limit)), ledger.count, None)
        for group in groups(track(rows, tr("revising", "修改回答"), unit=tr("prompts", "提示")), stage.together):
            ledger.append(_chains(stage, principles, responder, critic, group))
    with Outputs(out.path, ("conversations", "pairs", "failed")) as files:
        for row, _ in zip(ledger, prompts(stage.prompts, stage.limit, files.reject), strict=True):
            _sort(row, files)
    out.results |= files.results("conversations")


def _chains(
    stage: ConstitutionalStage,
    principles: Constitution,
    responder: Responder,
    critic: Responder,
    group: Sequence[tuple[int, dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Each prompt with its first answer and what was made of it."""
    provenance = {"responder": stage.responder.label, "critic": (stage.critic or stage.responder).label}
    rows = [dict(row) | {"answer": None, "rounds": [], "reason": None, **provenance} for _, row in group]
    numbers = [number for number, _ in group]

    def ask(model: Responder, config: ResponderConfig, what: str, asked: dict[int, list[dict[str, Any]]]) -> None:
        """Ask for each of the open rows; what is no reply ends its chain."""
        questions = [
            Question(
                messages,
                config.max_tokens,
                config.temperature,
                derive_seed(stage.seed, "constitutional", numbers[i], what),
            )
            for i, messages in asked.items()
        ]
        for i, reply in zip(asked, model.ask(questions), strict=True):
            text = _text(reply)
            if isinstance(text, NoReply):
                rows[i]["reason"] = f"{what.partition('.')[0]}_{text.reason}"
            elif what == "answer":
                rows[i]["answer"] = text
            elif what.startswith("critique"):
                rows[i]["rounds"][-1]["critique"] = text
            else:
                rows[i]["rounds"][-1]["revision"] = text

    def still() -> list[int]:
        return [i for i, row in enumerate(rows) if row["reason"] is None]

    ask(responder, stage.responder, "answer", {i: rows[i]["prompt"] for i in still()})
    config = stage.critic or stage.responder
    for number in range(stage.rounds):
        before: dict[int, list[dict[str, Any]]] = {}
        after: dict[int, str] = {}
        for i in still():
            chance = random.Random(derive_seed(stage.seed, "principle", numbers[i], number))
            principle = principles.draw("critique", chance)
            language = language_asked(rows[i]["prompt"])
            words, wording = WORDS[language], principle.words(language)
            current = rows[i]["rounds"][-1]["revision"] if rows[i]["rounds"] else rows[i]["answer"]
            rows[i]["rounds"].append({"principle": principle.id, "language": language})
            before[i] = [
                *rows[i]["prompt"],
                {"role": "assistant", "content": current},
                {"role": "user", "content": words.critique.format(principle=wording.critique)},
            ]
            after[i] = words.revision.format(principle=wording.revision)
        ask(critic, config, f"critique.{number}", before)
        said = {i: rows[i]["rounds"][-1].get("critique", "") for i in still()}
        revising = {
            i: [*before[i], {"role": "assistant", "content": text}, {"role": "user", "content": after[i]}]
            for i, text in said.items()
        }
        ask(critic, config, f"revision.{number}", revising)
    return rows


def _text(reply: Reply | NoReply) -> str | NoReply:
    """What was written, without thoughts; what is empty or was cut off is no reply to learn from."""
    if isinstance(reply, NoReply):
        return NoReply(f"no_reply: {reply.reason}")
    text = THOUGHT.sub("", reply.text).strip()
    if not text:
        return NoReply("empty")
    return text if reply.ended else NoReply(f"cut_off: {text[-60:]!r}")


def _sort(row: dict[str, Any], files: Outputs) -> None:
    """A chain as a conversation and a pair, or as what failed. An answer that was not changed makes no pair."""
    if row["reason"] is not None:
        files.fail(row, row["reason"])
        return
    revised = row["rounds"][-1]["revision"]
    used = [one["principle"] for one in row["rounds"]]
    known = {name: row[name] for name in ("id", "family", "lang") if name in row}
    provenance = {"provenance": {"responder": row["responder"], "critic": row["critic"], "principles": used}}
    context = [one | {"train": False} if one["role"] == "assistant" else one for one in row["prompt"]]
    messages = [*context, {"role": "assistant", "content": revised}]
    files.add("conversations", known | {"messages": messages} | provenance)
    if revised == row["answer"]:
        files.reasons["unchanged"] = files.reasons.get("unchanged", 0) + 1
        return
    pair = {"prompt": row["prompt"], "chosen": revised, "rejected": row["answer"]}
    files.add("pairs", known | pair | provenance)
