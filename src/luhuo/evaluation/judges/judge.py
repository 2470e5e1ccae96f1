"""One judge behind one door, whatever it is: compares two answers, rates one, or says whether a label holds.

Verdicts come through the cache (`calls.Calls`); what cannot be read is a verdict without value and with a reason.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from luhuo.align.ai_feedback.responders import THOUGHT, NoReply, Question, Reply, Responder, Used, opened
from luhuo.core.digest import path_digest, value_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.evaluation.judges import rules
from luhuo.evaluation.judges.calls import Call, Calls, Cost
from luhuo.evaluation.judges.config import JudgeConfig, Rule
from luhuo.evaluation.judges.rubric import Kind, Rubrics, read_rubrics
from luhuo.evaluation.judges.verdict import Shown, Verdict, read_pair, read_rating
from luhuo.files.references import resolve

DEFAULTS: dict[Kind, str] = {"pairwise": "pairwise", "single": "single", "label": "refusal"}
LETTERS = ("A", "B")
LASTING = ("too_long", "no_label")
"""Beginnings of reasons that another try would meet again."""
TOGETHER = 32
"""Verdicts asked for at a time, and kept when they are there."""


class _Sayer(Protocol):
    @property
    def used(self) -> Used: ...

    def say(self, kind: Kind, shown: Sequence[Shown]) -> list[Verdict]: ...


class Judge:
    """A judge that is ready. `cost` counts what its verdicts cost, `identity` says what it is."""

    def __init__(self, config: JudgeConfig, kind: Kind, sayer: _Sayer, identity: dict[str, Any], calls: Calls) -> None:
        self.config, self.name = config, config.label
        self.kind: Kind = kind
        self.identity = value_digest(identity)
        self.cost = Cost()
        self._sayer, self._calls = sayer, calls

    def say(self, shown: Sequence[Shown]) -> list[Verdict]:
        """A verdict on each: how likely the first side is better, a rating, or how likely the label holds."""
        found: list[Verdict] = []
        for start in range(0, len(shown), TOGETHER):
            found += self._together(shown[start : start + TOGETHER])
        return found

    def _together(self, shown: Sequence[Shown]) -> list[Verdict]:
        keys = [value_digest([self.identity, self.kind, *_content(one)]) for one in shown]
        known = self._calls.find(keys)
        new = {key: one for key, one in zip(keys, shown, strict=True) if key not in known}
        if new:
            asked = self._asked(new)
            self._calls.keep({key: call for key, call in asked.items() if not call.verdict.passing})
            known |= asked
        for key in dict.fromkeys(keys):
            self._count(known[key], key in new)
        return [known[key].verdict for key in keys]

    def _asked(self, new: dict[str, Shown]) -> dict[str, Call]:
        used, start = self._sayer.used, time.monotonic()
        before = (used.prompt_tokens, used.tokens)
        verdicts = self._sayer.say(self.kind, list(new.values()))
        seconds, share = time.monotonic() - start, 1 / len(new)
        read, written = (used.prompt_tokens - before[0]) * share, (used.tokens - before[1]) * share
        return {key: Call(one, read, written, seconds * share) for key, one in zip(new, verdicts, strict=True)}

    def _count(self, call: Call, new: bool) -> None:
        config = self.config
        price = (call.prompt_tokens * config.price_in + call.tokens * config.price_out) / 1e6
        self.cost.add(Cost(int(new), int(not new), call.prompt_tokens, call.tokens, call.seconds, price))


@contextlib.contextmanager
def open_judge(config: JudgeConfig, kind: Kind, calls: Calls, seed: int = 0) -> Iterator[Judge]:
    """The judge of a configuration for one kind of judgement. Raises `LuhuoError` where it cannot give that kind."""
    if config.rule is not None:
        if kind == "single" or (kind == "label") != (config.rule == "refusal"):
            raise _unable(config, kind)
        yield Judge(config, kind, _ByRule(config), {"rule": config.rule, "version": 1}, calls)
    elif config.reward_model is not None:
        if kind == "label":
            raise _unable(config, kind)
        yield Judge(config, kind, _ByReward(config), {"reward": _digest(config.reward_model)}, calls)
    else:
        assert config.responder is not None
        rubrics = read_rubrics(config.rubric, DEFAULTS[kind])
        with opened(config.responder) as responder:
            sayer = _ByModel(config, rubrics, responder, seed)
            yield Judge(config, kind, sayer, _model_identity(config, rubrics, seed), calls)


def _unable(config: JudgeConfig, kind: Kind) -> LuhuoError:
    able = {
        "pairwise": "longer, shorter, first, overlap, reward_model, responder",
        "single": "reward_model, responder",
    }
    return LuhuoError(
        tr("This judge cannot give this kind of judgement.", "该评判者无法给出这种评判。"),
        expected=able.get(kind, "refusal, responder"),
        found=f"{config.label}: {kind}",
    )


def _digest(reference: str) -> str:
    path = Path(reference)
    found = resolve(reference) if not path.exists() else None
    if found is not None and found.sha256:
        return found.sha256
    return path_digest(found.path if found is not None else path)


def _model_identity(config: JudgeConfig, rubrics: Rubrics, seed: int) -> dict[str, Any]:
    """What replies depend on: not its name in reports, or how many answers are written at once."""
    asked = config.responder
    assert asked is not None
    told = {"system": asked.system, "temperature": asked.temperature, "max_tokens": asked.max_tokens}
    told |= {"shots": _digest(asked.shots) if asked.shots else None, "shot_count": asked.shot_count}
    if asked.endpoint is not None:
        place = {"url": asked.endpoint.url, "model": asked.endpoint.model, "parameters": asked.endpoint.parameters}
        told |= {"endpoint": place}
    else:
        told |= {"model": _digest(str(asked.model)), "dtype": asked.dtype}
    return told | {"rubrics": rubrics.content, "seed": seed if asked.temperature else 0}


def _content(shown: Shown) -> list[Any]:
    sides = [list(side) for side in (shown.questions, shown.first, shown.second, shown.reference)]
    return [*sides, shown.meta.get("category")]


class _ByRule:
    """A rule of `rules`."""

    def __init__(self, config: JudgeConfig) -> None:
        assert config.rule is not None
        self._rule: Rule = config.rule
        self.used = Used()

    def say(self, kind: Kind, shown: Sequence[Shown]) -> list[Verdict]:
        if kind == "label":
            return [Verdict(float(rules.refuses(one.first[-1]))) for one in shown]
        return [rules.compare(self._rule, one) for one in shown]


class _ByReward:
    """A reward model: the chance that its score of the first side is the higher one (Bradley and Terry 1952)."""

    def __init__(self, config: JudgeConfig) -> None:
        from luhuo.align.rewards.config import ModelReward
        from luhuo.align.rewards.model import model

        assert config.reward_model is not None
        given = {"kind": "model", "model": config.reward_model, "dtype": config.dtype, "device": config.device}
        self._score, self.used = model(ModelReward.parse(given)), Used()

    def say(self, kind: Kind, shown: Sequence[Shown]) -> list[Verdict]:
        first = self._scores([(one.questions, one.first) for one in shown])
        if kind == "single":
            return first
        second = self._scores([(one.questions, one.second) for one in shown])
        return [_lead(a, b) for a, b in zip(first, second, strict=True)]

    def _scores(self, said: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[Verdict]:
        from luhuo.align.rewards.score import CompletionInfo, Mark

        items = [{"messages": _before(questions, answers)} for questions, answers in said]
        texts = [answers[-1] for _, answers in said]
        marks = self._score(items, texts, [CompletionInfo()] * len(texts))
        return [
            Verdict(one.value) if isinstance(one, Mark) else Verdict(None, f"unscored: {one.reason}") for one in marks
        ]


def _before(questions: Sequence[str], answers: Sequence[str]) -> list[dict[str, str]]:
    """The conversation up to the last answer."""
    messages = []
    for turn, question in enumerate(questions):
        messages.append({"role": "user", "content": question})
        if turn < len(questions) - 1:
            messages.append({"role": "assistant", "content": answers[turn]})
    return messages


def _lead(a: Verdict, b: Verdict) -> Verdict:
    if a.value is None or b.value is None:
        return a if a.value is None else b
    return Verdict(1 / (1 + math.exp(min(700.0, b.value - a.value))))


class _ByModel:
    """A model that is asked by rubrics."""

    def __init__(self, config: JudgeConfig, rubrics: Rubrics, responder: Responder, seed: int) -> None:
        assert config.responder is not None
        self._config, self._rubrics, self._responder, self._seed = config.responder, rubrics, responder, seed

    @property
    def used(self) -> Used:
        return self._responder.used

    def say(self, kind: Kind, shown: Sequence[Shown]) -> list[Verdict]:
        chosen = [self._rubrics.of(kind, one) for one in shown]
        spoken = [i for i, rubric in enumerate(chosen) if rubric.answer == "verdict"]
        lettered = [i for i, rubric in enumerate(chosen) if rubric.answer == "choice"]
        found: dict[int, Verdict] = {}
        if spoken:
            asked = [
                Question(
                    chosen[i].messages(shown[i]),
                    self._config.max_tokens,
                    self._config.temperature,
                    derive_seed(self._seed, *_content(shown[i])),
                )
                for i in spoken
            ]
            for i, reply in zip(spoken, self._responder.ask(asked), strict=True):
                scale = chosen[i].scale
                found[i] = _heard(
                    reply, read_pair if kind == "pairwise" else lambda t, e, s=scale: read_rating(t, s, e)
                )
        if lettered and kind == "pairwise":
            chances = self._responder.choose([chosen[i].messages(shown[i]) for i in lettered], LETTERS)
            found |= {i: _chance(one) for i, one in zip(lettered, chances, strict=True)}
        elif lettered:
            orders = [chosen[i].messages(shown[i], swapped) for i in lettered for swapped in (False, True)]
            chances = self._responder.choose(orders, LETTERS)
            found |= {i: _either(*chances[2 * k : 2 * k + 2]) for k, i in enumerate(lettered)}
        return [found[i] for i in range(len(shown))]


def _heard(reply: Reply | NoReply, read: Callable[[str, bool], Verdict]) -> Verdict:
    if isinstance(reply, NoReply):
        return _silent(reply)
    return read(THOUGHT.sub("", reply.text), reply.ended)


def _silent(reply: NoReply) -> Verdict:
    reason = reply.reason if reply.reason.startswith((*LASTING, "timeout")) else f"refused: {reply.reason}"
    return Verdict(None, reason.replace("no_label", "nonsense", 1), passing=not reply.reason.startswith(LASTING))


def _chance(found: dict[str, float] | NoReply) -> Verdict:
    return _silent(found) if isinstance(found, NoReply) else Verdict(found["A"])


def _either(plain: dict[str, float] | NoReply, swapped: dict[str, float] | NoReply) -> Verdict:
    """How likely a label holds, of both orders of its options, so that a taste for a letter cancels out."""
    for one in (plain, swapped):
        if isinstance(one, NoReply):
            return _silent(one)
    assert not isinstance(plain, NoReply) and not isinstance(swapped, NoReply)
    return Verdict((plain["A"] + swapped["B"]) / 2)


Side = Literal["a", "b", "tie"]


def side_of(verdict: Verdict, tie: float) -> Side | None:
    """Which side a verdict names; "tie" where its chance is not further from one half than `tie`."""
    if verdict.value is None:
        return None
    apart = verdict.value - 0.5
    return "tie" if abs(apart) <= tie + 1e-12 else "a" if apart > 0 else "b"
