"""Tasks on a model: items to requests, requests through the engine, outcomes to rows and scores.

Items go in portions, so that memory stays bounded and what is done is on the disk. Within a portion requests are
sorted by what they share and by length. A task that fails leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luhuo.core.artifact import input_record
from luhuo.core.digest import value_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.encode import Encoded, Encoder
from luhuo.evaluation.item_scores import Row, scored
from luhuo.evaluation.likelihood import Continuation, Likelihood, Scorer
from luhuo.evaluation.outcomes import Outcome, Outcomes, request_key
from luhuo.evaluation.programs.trial import INSIST
from luhuo.evaluation.task_summary import summarise
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.documents import Document, documents
from luhuo.evaluation.tasks.requests import Asker, Manner
from luhuo.evaluation.tasks.sources import folder_of
from luhuo.files.references import expand
from luhuo.inference.engine import Engine
from luhuo.inference.runner import longest_prompt
from luhuo.inference.sampling import Sampling
from luhuo.model import encoder as encoder_model
from luhuo.model.decoder import Decoder

PORTION, REPLIES_PORTION = 2048, 128
"""Items handed on at once: replies are kept when all of them are written, likelihoods as they come."""
SAVED_EVERY = 64
"""Outcomes of likelihoods are written after so many items."""
SAMPLED_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Subject:
    """The model under test: its engine, and the digest by which outcomes are kept (None: they are not)."""

    engine: Engine
    digest: str | None = None


def model_digest(reference: str, model: Decoder) -> str:
    """What outcomes of a model are kept by: its files, its number format and where it computes."""
    return value_digest([input_record("model", expand(reference))["digest"], str(model.dtype), model.device.type])


@dataclass(frozen=True)
class TaskResult:
    """A finished task: its rows, its scores, and the recipe of both."""

    task: Task
    rows: list[Row]
    summary: dict[str, Any]


class Runner:
    """Runs tasks on one model with one set of settings."""

    def __init__(self, subject: Subject, ask: AskSettings, seed: int = 0) -> None:
        self.engine, self.ask, self.seed = subject.engine, ask, seed
        self.digest = subject.digest
        model = self.engine.model
        self.context = (
            model.config.max_positions if isinstance(model, encoder_model.Encoder) else longest_prompt(model)
        )
        self.context = min(self.context, ask.context or self.context)
        self.manner = Manner(ask.mode, ask.shots_as, ask.system)

    def run(self, task: Task, data: str | None = None) -> TaskResult:
        """One task on the data in a folder, or named by a reference. Raises `LuhuoError`."""
        if task.spec.kind != "custom" and isinstance(self.engine.model, encoder_model.Encoder):
            raise LuhuoError(
                tr("This task asks a model that writes.", "该任务需要能生成文本的模型。"),
                found=type(self.engine.model).__name__,
                fix=tr("Encoders can do retrieval tasks and probes (luhuo tasks).", "编码器可做检索与探针任务。"),
            )
        INSIST.set(self.ask.weak)
        folder = folder_of(task, data)
        if task.functions.find("evaluate") is not None:
            return self._own(task, folder)
        found = documents(task, folder, limit=self.ask.limit, seed=self.seed, shots=self.ask.shots)
        outcomes = Outcomes(self.digest, task.name, reuse=self.ask.reuse)
        rows: list[Row] = []
        texts: list[list[str]] = []
        first: Encoded | None = None
        size = REPLIES_PORTION if task.spec.kind == "generation" else PORTION
        with Progress(task.name, len(found), tr("items", "题")) as progress:
            for start in range(0, len(found), size):
                portion = found[start : start + size]
                for encoded, outcome in self._portion(task, portion, outcomes, progress):
                    first = first or encoded
                    row = scored(task, encoded.asked, outcome)
                    rows.append(row)
                    texts.append(outcome.get("outputs", []))
        corpus = task.functions.find("corpus")
        whole = corpus([document.fields for document in found], texts) if corpus is not None else None
        summary = summarise(task, rows, self.seed, whole)
        return TaskResult(task, rows, summary | {"recipe": self._recipe(task, found, first)})

    def _own(self, task: Task, folder: Path | None) -> TaskResult:
        """A task whose Python file does it all."""
        evaluate = task.functions.find("evaluate")
        assert evaluate is not None
        rows = []
        with Progress(task.name, None, tr("items", "题")) as progress:
            for number, found in enumerate(evaluate(self.engine, folder, self.ask)):
                row = {"id": str(found.get("id", number)), "subject": "", "group": "", "shots": 0, "flags": {}}
                row |= {"lang": task.spec.languages[0], "chance": task.spec.chance} | found
                row["scores"] = {k: 0.0 if v is None else float(v) for k, v in found["scores"].items()}
                rows.append(row)
                progress.advance()
        if not rows:
            raise LuhuoError(tr(f"The task {task.name} has no items.", f"任务 {task.name} 没有题目。"), where=folder)
        return TaskResult(task, rows, summarise(task, rows, self.seed) | {"recipe": self._recipe(task, [], None)})

    def _portion(
        self, task: Task, portion: Sequence[Document], outcomes: Outcomes, progress: Progress
    ) -> Iterator[tuple[Encoded, Outcome]]:
        """Requests with their outcomes, in the items' order; only those that are not known are asked."""
        kind = task.spec.kind
        context = min(self.context, self.engine.context) if kind == "generation" else self.context
        encoder = Encoder(Asker(task, self.manner), self.engine.tokenizer, context, self._sampling(task).max_tokens)
        if kind == "custom":
            encoded = [Encoded(encoder.asker.ask(document)) for document in portion]
        else:
            encoded = [encoder.encode(document) for document in portion]
        keys = [self._key(task, one) for one in encoded]
        todo = {key: one for key, one in zip(keys, encoded, strict=True) if outcomes.get(key) is None}
        progress.start_from(progress.done + len(portion) - len(todo))
        if kind == "generation":
            found = self._generated(task, todo, encoder)
        elif kind == "custom":
            found = self._custom(task, todo)
        else:
            found = self._likelihoods(todo, encoder)
        held: dict[str, Outcome] = {}
        try:
            for key, outcome in found:
                held[key] = outcome
                progress.advance()
                if len(held) >= SAVED_EVERY:
                    outcomes.put(held)
                    held = {}
        finally:  # also what was done before an error or an interrupt
            outcomes.put(held)
        for key, one in zip(keys, encoded, strict=True):
            known = outcomes.get(key)
            assert known is not None
            yield one, known

    def _key(self, task: Task, one: Encoded) -> str:
        """The digest of a request: all that decides what the model gives."""
        spec = task.spec
        request: list[Any] = [spec.kind, [[s.ids, s.count] for s in one.sequences], one.prompt, one.cut]
        if spec.kind == "generation":
            request += [self._sampling(task).model_dump(mode="json"), one.asked.turns, self.ask.mode, self.ask.system]
        elif spec.kind == "choice":
            request += [self.ask.mutual_information, one.asked.continuations]
        elif spec.kind == "custom":
            request += [task.digest, one.asked.document.fields, self.ask.model_dump(mode="json"), self.seed]
        return request_key(task.name, spec.version, request)

    def _likelihoods(self, todo: Mapping[str, Encoded], encoder: Encoder) -> Iterator[tuple[str, Outcome]]:
        scorer = Scorer(self.engine.model, self.ask.pass_tokens)  # type: ignore[arg-type]
        keys = list(todo)
        alone = self._alone(todo, encoder, scorer) if self.ask.mutual_information else {}
        windows = [todo[key].sequences for key in keys]
        texts = any(todo[key].asked.text for key in keys)
        if texts:  # windows of a text are requests of their own
            yield from self._texts(todo, scorer)
            return
        for number, found in scorer.score(windows):
            one = todo[keys[number]]
            outcome: Outcome = _numbers(found) | ({"cut": True} if one.cut else {})
            if alone and one.asked.choices:
                outcome["alone"] = [alone[continuation] for continuation in one.asked.continuations]
            yield keys[number], outcome

    def _texts(self, todo: Mapping[str, Encoded], scorer: Scorer) -> Iterator[tuple[str, Outcome]]:
        owners = [(key, place) for key, one in todo.items() for place in range(len(one.sequences))]
        parts: dict[str, dict[int, Likelihood]] = {key: {} for key in todo}
        for number, found in scorer.score([(todo[key].sequences[place],) for key, place in owners]):
            key, place = owners[number]
            parts[key][place] = found[0]
            if len(parts[key]) == len(todo[key].sequences):
                yield key, _numbers([parts[key][i] for i in sorted(parts[key])])

    def _alone(self, todo: Mapping[str, Encoded], encoder: Encoder, scorer: Scorer) -> dict[str, float]:
        """log p of each continuation without its question, each text once."""
        texts = list(dict.fromkeys(c for one in todo.values() for c in one.asked.continuations))
        lone: list[tuple[Continuation, ...]] = [(encoder.unconditional(text),) for text in texts]
        return {texts[number]: found[0].total for number, found in scorer.score(lone)}

    def _sampling(self, task: Task) -> Sampling:
        wanted, ask = task.spec.generation, self.ask
        samples = ask.samples or wanted.samples
        temperature = wanted.temperature if ask.temperature is None else ask.temperature
        if ask.temperature is None and samples > 1 and temperature == 0:
            temperature = SAMPLED_TEMPERATURE
        return Sampling(
            max_tokens=ask.max_tokens or wanted.max_tokens,
            temperature=temperature,
            stop=tuple(wanted.stop),
            n=samples,
            seed=derive_seed(self.seed, task.name, "sampling") if temperature else None,
        )

    def _generated(self, task: Task, todo: Mapping[str, Encoded], encoder: Encoder) -> Iterator[tuple[str, Outcome]]:
        sampling = self._sampling(task)
        plain = {key: one for key, one in todo.items() if not one.asked.turns}
        done = self.engine.generate([one.prompt for one in plain.values()], sampling) if plain else []
        for (key, one), completion in zip(plain.items(), done, strict=True):
            yield key, _replies(completion.choices or [completion]) | ({"cut": True} if one.cut else {})
        for key, one in todo.items():
            if one.asked.turns:
                yield key, self._conversed(one.asked.turns, sampling, encoder)

    def _conversed(self, turns: Sequence[str], sampling: Sampling, encoder: Encoder) -> Outcome:
        """Replies to user turns asked one after the other."""
        messages = [{"role": "system", "content": self.ask.system}] if self.ask.system else []
        replies = []
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            reply = self.engine.generate([Conversation.of(messages)], sampling)[0]
            messages.append({"role": "assistant", "content": reply.text})
            replies.append(reply)
        return _replies(replies)

    def _custom(self, task: Task, todo: Mapping[str, Encoded]) -> Iterator[tuple[str, Outcome]]:
        run = task.functions.find("run")
        if run is None:
            raise LuhuoError(tr("A custom task needs the function run.", "自定义任务需要函数 run。"), where=task.file)
        fields = [one.asked.document.fields for one in todo.values()]
        for key, scores in zip(todo, run(self.engine, fields, self.ask), strict=True):
            yield key, {"scores": dict(scores)}

    def _recipe(self, task: Task, found: Sequence[Document], first: Encoded | None) -> dict[str, Any]:
        """All that decides the scores, for the result file and for comparing two of them."""
        from luhuo.evaluation.recipe_of import recipe_of

        return recipe_of(task, self.engine, self.ask, self.context, self.seed, found, first)


def _numbers(found: Sequence[Likelihood]) -> Outcome:
    return {
        "totals": [one.total for one in found],
        "tokens": [one.tokens for one in found],
        "greedy": [one.greedy for one in found],
    }


def _replies(found: Sequence[Any]) -> Outcome:
    return {
        "outputs": [one.text for one in found],
        "reasons": [one.finish_reason for one in found],
        "lengths": [len(one.token_ids) for one in found],
    }
