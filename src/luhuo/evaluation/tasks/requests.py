"""From an item to what the model is asked: prompt, continuations and the right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.documents import Document
from luhuo.evaluation.tasks.sources import Row
from luhuo.evaluation.tasks.template import filled, valued

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Asked:
    """An item ready to be put to a model.

    `prompts`: one, or one a choice. `continuations` stand behind them, with their delimiter; `choices` are the same
    without it. `right`: 1 for each choice that is right. `counted` is the text whose words and bytes are counted.
    """

    document: Document
    prompts: tuple[str | Messages, ...] = ()
    continuations: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    right: tuple[int, ...] = ()
    reference: str | None = None
    text: str = ""
    counted: str = ""
    turns: tuple[str, ...] = ()
    shots: int = 0

    @property
    def gold(self) -> int:
        """Number of the (first) right choice."""
        return self.right.index(1)


@dataclass(frozen=True)
class Manner:
    """How items are put: "plain" text, or the "chat" template with examples in one turn ("text") or in "turns"."""

    mode: str = "plain"
    shots_as: str = "text"
    system: str | None = None


@dataclass
class Asker:
    """Makes requests of a task's items."""

    task: Task
    manner: Manner = field(default_factory=Manner)

    def ask(self, document: Document, shots: int | None = None) -> Asked:
        """The request of an item with the first `shots` of its examples (all). Raises `LuhuoError`."""
        kind, examples = self.task.spec.kind, document.examples[:shots]
        if kind == "text":
            text = self._template("text", document.fields)
            original = self.task.spec.original
            counted = text if original is None else filled(original, document.fields, self._where(document.fields))
            return Asked(document, text=text, counted=counted)
        if kind == "choice":
            return self._choice(document, examples)
        if kind == "continuation":
            prompt = self._composed(document, examples, self._question(document.fields))
            continuation = self._delimiter + self._template("continuation", document.fields)
            return Asked(document, (prompt,), (continuation,), (continuation,), (1,), shots=len(examples))
        return self._generation(document, examples)

    def _where(self, fields: Row) -> str:
        return f"{self.task.file.name}: {fields.get('id', '?')}"

    def _function(self, name: str) -> Callable[..., Any] | None:
        return self.task.functions.find(name)

    def _template(self, key: str, fields: Row) -> str:
        return filled(getattr(self.task.spec, key) or "", fields, self._where(fields))

    def _value(self, key: str, fields: Row) -> Any:
        function = self._function(key)
        if function is not None:
            return function(fields)
        given = getattr(self.task.spec, key)
        return given if isinstance(given, list) else valued(given, fields, self._where(fields))

    @property
    def _delimiter(self) -> str:
        """What a chat template writes in front of an answer ends as it should: nothing is put behind it."""
        return "" if self.manner.mode == "chat" else self.task.spec.delimiter

    def _question(self, fields: Row, *, example: bool = False) -> str | Messages:
        function, source = self._function("prompt"), self.task.spec.prompt
        if example and self.task.spec.shots.prompt is not None:
            return filled(self.task.spec.shots.prompt, fields, self._where(fields))
        return function(fields) if function is not None else filled(source or "", fields, self._where(fields))

    def _choice(self, document: Document, examples: Sequence[Row]) -> Asked:
        choices, right = self._choices(document.fields)
        if self.task.spec.prompts is not None:
            prompts = [str(p) for p in valued(self.task.spec.prompts, document.fields, self._where(document.fields))]
            rest = self._delimiter + self._template("continuation", document.fields)
            asked = tuple(self._composed(document, examples, prompt) for prompt in prompts)
            return Asked(document, asked, (rest,) * len(asked), tuple(choices), right, shots=len(examples))
        prompt = self._composed(document, examples, self._question(document.fields))
        behind = tuple(self._delimiter + choice for choice in choices)
        return Asked(document, (prompt,), behind, tuple(choices), right, shots=len(examples))

    def _choices(self, fields: Row) -> tuple[list[str], tuple[int, ...]]:
        """The choices as text, and which of them are right."""
        key = "choices" if self.task.spec.choices is not None or self._function("choices") else "prompts"
        choices = [str(choice) for choice in self._value(key, fields)]
        answer = self._value("answer", fields)
        if isinstance(answer, (list, tuple)):
            right = tuple(int(bool(mark)) for mark in answer)
        else:
            where = choices.index(answer) if isinstance(answer, str) and answer in choices else answer
            number = int(where) if isinstance(where, (int, float)) or str(where).isdigit() else -1
            right = tuple(int(i == number) for i in range(len(choices)))
        if not choices or len(right) != len(choices) or not any(right):
            raise LuhuoError(
                tr("The right answer is none of the choices.", "正确答案不在选项中。"),
                expected=choices,
                found=answer,
                where=self._where(fields),
            )
        return choices, right

    def _answer(self, fields: Row) -> str:
        """What an example answers."""
        source = self.task.spec.shots.answer
        if source is not None:
            return filled(source, fields, self._where(fields))
        if self.task.spec.kind == "choice" and self.task.spec.prompts is None:
            choices, right = self._choices(fields)
            return choices[right.index(1)]
        if self.task.spec.kind == "generation":
            return self._reference(fields) or ""
        return self._template("continuation", fields)

    def _solved(self, fields: Row) -> str | Messages:
        """An example's question; where each choice has a prompt of its own, that of the right one."""
        if self.task.spec.prompts is None:
            return self._question(fields, example=True)
        prompts = valued(self.task.spec.prompts, fields, self._where(fields))
        return str(prompts[self._choices(fields)[1].index(1)])

    def _composed(self, document: Document, examples: Sequence[Row], question: str | Messages) -> str | Messages:
        """Description, examples and question as one text, or as messages."""
        description = filled(self.task.spec.description, document.fields, self._where(document.fields))
        if not isinstance(question, str):
            return question
        if self.manner.mode == "plain":
            return description + "".join(self._shown(row) for row in examples) + question
        system = [{"role": "system", "content": self.manner.system}] if self.manner.system else []
        if self.manner.shots_as == "turns":
            turns: Messages = []
            for row in examples:
                asked = self._solved(row)
                turns += [
                    {"role": "user", "content": asked if isinstance(asked, str) else asked[-1]["content"]},
                    {"role": "assistant", "content": self._answer(row).strip()},
                ]
            turns.append({"role": "user", "content": question})
            turns[0]["content"] = description + turns[0]["content"]
            return [*system, *turns]
        text = description + "".join(self._shown(row) for row in examples) + question
        return [*system, {"role": "user", "content": text}]

    def _shown(self, row: Row) -> str:
        asked = self._solved(row)
        answer = self._answer(row)
        gap = "" if not isinstance(asked, str) or asked[-1:].isspace() or answer[:1].isspace() else None
        delimiter = self.task.spec.delimiter if gap is None else gap
        text = asked if isinstance(asked, str) else "\n".join(message["content"] for message in asked)
        return text + delimiter + answer + self.task.spec.shots.separator

    def _reference(self, fields: Row) -> str | None:
        function = self._function("reference")
        if function is not None:
            return str(function(fields))
        return None if self.task.spec.reference is None else self._template("reference", fields)

    def _generation(self, document: Document, examples: Sequence[Row]) -> Asked:
        reference = self._reference(document.fields)
        if self.task.spec.turns is not None:
            turns = tuple(map(str, valued(self.task.spec.turns, document.fields, self._where(document.fields))))
            return Asked(document, reference=reference, turns=turns)
        prompt = self._composed(document, examples, self._question(document.fields))
        return Asked(document, (prompt,), reference=reference, shots=len(examples))
