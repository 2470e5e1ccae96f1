"""Rubrics: what a judge is told, as YAML of one's own or as MT-Bench's published judge prompts.

Text is filled into `{places}` in one pass, so that nothing an answer says is taken for a place, and braces that name
none stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import model_validator

from luhuo.core.config import Config, field, unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.judges.verdict import Shown
from luhuo.files.references import resolve
from luhuo.verify.script import language_of

Kind = Literal["pairwise", "single", "label"]
BUNDLED = Path(__file__).parent / "rubrics"
MOST_BYTES = 1 << 20
PLACE = re.compile(r"\{(\w+)\}")
SIDES = ("answer", "answer_a", "answer_b", "ref_answer", "question")
PLACES = {*SIDES, "reference", "option_a", "option_b", *(f"{side}_{turn}" for side in SIDES for turn in (1, 2))}
REFERENCED = ("math", "reasoning", "coding", "arena-hard-200")
"""MT-Bench's categories that are judged beside a reference answer."""


class Wording(Config):
    """What is said in one language."""

    system: str = field("", "Instruction before the question.", "问题之前的指示。")
    prompt: str = field(..., "The question, with {places}.", "问题，含 {占位}。", min_length=1)
    options: list[str] = field([], "Of a label: what holds, and what does not.", "标签的两个选项：成立、不成立。")


class Rubric(Config):
    """How one kind of judgement is asked for."""

    name: str = field(..., "Its name.", "名称。", min_length=1)
    kind: Kind = field(
        ..., "pairwise, single (a rating) or label (holds or not).", "pairwise 成对、single 评分、label 标签。"
    )
    answer: Literal["verdict", "choice"] = field(
        "verdict",
        "verdict: in words, ending with [[A]], [[B]], [[C]] or [[number]]; choice: the probability of letter A or B.",
        "verdict：用文字作答，以 [[A]]、[[B]]、[[C]] 或 [[数字]] 结尾；choice：取字母 A 或 B 的概率。",
    )
    scale: tuple[float, float] = field((1, 10), "Lowest and highest rating.", "最低与最高评分。")
    en: Wording | None = field(None, "In English.", "英文。")
    zh: Wording | None = field(None, "In Chinese, for Chinese questions.", "中文，用于中文问题。")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.en is None and self.zh is None:
            raise ValueError(tr("give the wording en or zh", "请给出 en 或 zh 的措辞"))
        for words in (self.en, self.zh):
            for place in PLACE.findall(words.prompt) if words else ():
                if place not in PLACES:
                    raise unknown_key(place, sorted(PLACES), self.name, tr("place", "占位"))
            if words and self.kind == "label" and len(words.options) != 2:
                raise ValueError(tr("a label needs two options", "标签需要两个选项"))
        if self.kind == "label" and self.answer != "choice":
            raise ValueError(tr("a label is a choice", "标签须用 choice"))
        if self.kind == "single" and self.answer != "verdict":
            raise ValueError(tr("a rating is a verdict", "评分须用 verdict"))
        return self

    def words(self, shown: Shown) -> Wording:
        """The wording for a question: in its language, or in the one there is."""
        chinese = language_of(shown.questions[-1]) == "zh"
        found = (self.zh or self.en) if chinese else (self.en or self.zh)
        assert found is not None
        return found

    def messages(self, shown: Shown, swapped: bool = False) -> list[dict[str, str]]:
        """What the judge is asked. `swapped`: a label's options the other way round."""
        words = self.words(shown)
        values = _values(shown)
        if words.options:
            a, b = reversed(words.options) if swapped else words.options
            values |= {"option_a": a, "option_b": b}
        text = PLACE.sub(lambda match: values.get(match[1], ""), words.prompt)
        system = [{"role": "system", "content": words.system}] if words.system else []
        return [*system, {"role": "user", "content": text}]


class Rubrics:
    """One rubric, or MT-Bench's set of them from which each conversation gets the one that fits."""

    def __init__(self, named: Mapping[str, Rubric]) -> None:
        self._named = named

    @property
    def content(self) -> dict[str, Any]:
        """All of it, for cache keys."""
        return {name: one.model_dump(mode="json") for name, one in sorted(self._named.items())}

    def of(self, kind: Kind, shown: Shown) -> Rubric:
        """The rubric for a conversation. Raises `LuhuoError` where there is none of this kind."""
        found = {name: one for name, one in self._named.items() if one.kind == kind}
        if not found:
            raise LuhuoError(
                tr("The rubric is for another kind of judgement.", "评分标准用于另一种评判。"),
                expected=kind,
                found=", ".join(sorted({one.kind for one in self._named.values()})),
            )
        if len(found) == 1:
            return next(iter(found.values()))
        stem = "pair" if kind == "pairwise" else "single"
        judged = bool(shown.reference) and shown.meta.get("category") in REFERENCED
        version = "math-v1" if judged else "v2" if kind == "pairwise" else "v1"
        name = f"{stem}-{version}" + ("-multi-turn" if len(shown.questions) > 1 else "")
        if name not in found:
            raise LuhuoError(
                tr("The prompts lack one that is needed.", "缺少所需的评判提示。"),
                expected=name,
                found=", ".join(found),
            )
        return found[name]


def read_rubrics(reference: str | None, default: str) -> Rubrics:
    """The rubrics of a file, or the bundled one named `default`. Raises `LuhuoError` for a file that is none."""
    file = BUNDLED / f"{default}.yaml" if reference is None else resolve(reference).path
    if not file.is_file():
        raise LuhuoError(tr("There is no such rubric.", "没有这个评分标准。"), where=file)
    with file.open("rb") as handle:
        content = handle.read(MOST_BYTES + 1)
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(tr(f"more than {MOST_BYTES:,} bytes", f"超过 {MOST_BYTES:,} 字节"))
        if file.suffix == ".jsonl":
            rows = [json.loads(line) for line in content.decode().splitlines() if line.strip()]
            return Rubrics({str(row["name"]): _published(row) for row in rows})
        values = yaml.safe_load(content)
        if not isinstance(values, dict):
            raise ValueError(type(values).__name__)
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LuhuoError(
            tr("This is no rubric.", "这不是评分标准。"),
            expected="name, kind, en: {system, prompt}; " + tr("or MT-Bench's prompts", "或 MT-Bench 的提示"),
            found=str(error)[:200],
            where=file,
        ) from None
    found = Rubric.parse(values, str(file))
    return Rubrics({found.name: found})


def _published(row: Mapping[str, Any]) -> Rubric:
    """A prompt of MT-Bench's file: `{"name", "type", "system_prompt", "prompt_template"}`."""
    words = {"system": row["system_prompt"], "prompt": row["prompt_template"]}
    return Rubric.parse({"name": row["name"], "kind": row["type"], "en": words}, str(row["name"]))


def _values(shown: Shown) -> dict[str, str]:
    """What fills the places; without a number, the only turn or the last one."""
    sides = {"question": shown.questions, "answer": shown.first, "answer_a": shown.first, "answer_b": shown.second}
    sides["ref_answer"] = shown.reference
    values = {"reference": shown.reference[-1] if shown.reference else ""}
    for side, texts in sides.items():
        values[side] = texts[-1] if texts else ""
        values |= {f"{side}_{turn}": text for turn, text in enumerate(texts, 1)}
    return values
