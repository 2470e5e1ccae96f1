"""CircularEval as a task: every rotation of an item's options is asked, and all must be answered rightly.

A reply without an option goes to a judge, the one of the settings or the model under test itself: it is asked which
option the reply means, one answer being "none of them". Where it says that too, an option is drawn, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from luhuo.align.ai_feedback.responders import NoReply, Responder, opened
from luhuo.dialogue.conversation import Conversation
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.metrics.option_bias import Judge, Pick, Rotation, circular, letter, pick, rotations
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling

LETTERS = "ABCD"
ITEMS = 32
"""Items asked at once."""
TOKENS = {"plain": 16, "chat": 128}


@dataclass(frozen=True)
class Words:
    """The prompts of one language."""

    ask: str
    answer: str
    judge: str
    none: str


ENGLISH = Words(
    "Choose the right answer and say its letter.\n\n{question}\n{options}",
    "Answer:",
    "Question: {question}\n{options}\n\nReply: {reply}\n\nWhich option does the reply mean? Letter:",
    "none of them",
)
CHINESE = Words(
    "请选出正确答案，并写出其字母。\n\n{question}\n{options}",
    "答案：",
    "问题：{question}\n{options}\n\n回复：{reply}\n\n这个回复指的是哪个选项？字母：",
    "都不是",
)


@dataclass(frozen=True)
class Circle:
    """The functions of a task whose items have `question` and four options, in one language."""

    words: Words

    def run(
        self, engine: Engine, found: Sequence[dict[str, Any]], settings: AskSettings
    ) -> Iterator[dict[str, float]]:
        """Scores of each item: `circular`, `plain`, `single` and `vote`; shares of its answers picked by rule, judge
        or draw, and by letter; `recall.A` whether it was right when A was."""
        with ExitStack() as stack:
            judge = self._judge(engine)
            if settings.judge is not None:
                judge = self._named(stack.enter_context(opened(settings.judge)))
            yield from self._asked(engine, found, settings, judge)

    def _asked(
        self, engine: Engine, found: Sequence[dict[str, Any]], settings: AskSettings, judge: Judge
    ) -> Iterator[dict[str, float]]:
        for start in range(0, len(found), ITEMS):
            part = [
                (item["question"].strip(), rotations(item["options"], item["gold"]))
                for item in found[start : start + ITEMS]
            ]
            prompts = [
                self._prompt(question, turned, settings) for question, all_turned in part for turned in all_turned
            ]
            sampling = Sampling(max_tokens=settings.max_tokens or TOKENS[settings.mode], temperature=0)
            replies = iter(engine.generate(prompts, sampling))
            for question, turned in part:
                picks = [(one, pick(question, one, next(replies).text, 0, judge)) for one in turned]
                yield _scores(picks)

    def _prompt(self, question: str, turned: Rotation, settings: AskSettings) -> str | Conversation:
        text = self.words.ask.format(question=question, options=_listed(turned.options))
        if settings.mode == "chat":
            return Conversation.of([{"role": "user", "content": text}])
        return f"{text}\n{self.words.answer}"

    def _question(self, question: str, options: Sequence[str], reply: str) -> tuple[str, list[str]]:
        """What a judge is asked, and the letters it may say; the last is "none of them"."""
        listed = _listed([*options, self.words.none])
        prompt = self.words.judge.format(question=question, options=listed, reply=reply.strip()[-1000:])
        return prompt, [letter(place) for place in range(len(options) + 1)]

    def _named(self, responder: Responder) -> Judge:
        """The likeliest letter of another model, here or behind an endpoint."""

        def judged(question: str, options: Sequence[str], reply: str) -> str | None:
            prompt, letters = self._question(question, options, reply)
            said = responder.choose([[{"role": "user", "content": prompt}]], letters)[0]
            if isinstance(said, NoReply):
                return None
            best = max(letters, key=lambda name: said[name])
            return None if best == letters[-1] else best

        return judged

    def _judge(self, engine: Engine) -> Judge:
        """The likeliest letter of the model under test."""

        def judged(question: str, options: Sequence[str], reply: str) -> str | None:
            prompt, letters = self._question(question, options, reply)
            scores = [total for total, _ in engine.loglikelihood([(prompt, f" {name}") for name in letters])]
            best = letters[scores.index(max(scores))]
            return None if best == letters[-1] else best

        return judged


def _listed(options: Sequence[str]) -> str:
    return "\n".join(f"{letter(place)}. {option}" for place, option in enumerate(options))


def _scores(picks: list[tuple[Rotation, Pick]]) -> dict[str, float]:
    found = circular([picks])
    shares = {f"by_{how}": count / len(picks) for how, count in found.picked.items()}
    letters = {f"letter.{name}": found.letters.get(name, 0.0) for name in LETTERS}
    recall = {f"recall.{name}": value for name, value in found.recall.items()}
    plain = {"plain": found.plain, "single": found.single, "vote": found.vote}
    return {"circular": found.circular, **plain, **shares, **letters, **recall}


def item(row: dict[str, Any], options: Sequence[str], gold: int) -> dict[str, Any]:
    """A row with what is asked of it."""
    return row | {"options": [str(option).strip() for option in options], "gold": gold}
