"""How surprised a small character model is: clean text of its language is cheap, garbled or shuffled text is dear.

Signals of the family `perplexity`, measured where a model of the text's language is given: `char`, 2 to the mean bits
a character, and `worst`, the same of the dearest `WINDOW` characters in a row, for a damaged page in a clean document.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.core.seeds import derive_seed
from luhuo.corpus.documents import read_documents
from luhuo.corpus.signals.batch import Batch, Values
from luhuo.corpus.signals.char_ngram import BIT, CharNgram, Trainer, frequent_characters
from luhuo.corpus.signals.detection import auc

if TYPE_CHECKING:
    from luhuo.corpus.signals.stages import NgramLmStage

FILE = "ngram.safetensors"
WINDOW = 200
HELD_OUT = 2000
"""Held-out texts that are measured at most."""
DAMAGED_CHARS = 600
"""Characters of a text that is damaged for measuring."""


class Model:
    """The signal of one model, or of one for each language."""

    family = "perplexity"

    def __init__(self, models: Sequence[CharNgram]) -> None:
        self._models = {model.lang: model for model in models}

    @classmethod
    def load(cls, folders: Sequence[str | Path]) -> Model:
        """Read the models of artifacts of stage `ngram-lm`."""
        return cls([CharNgram.load(Path(folder) / FILE) for folder in folders])

    def measure(self, batch: Batch) -> Values:
        """Nothing where there is no model of the language."""
        model = self._models.get(batch.lang)
        return signals(model, batch) if model else {}


def signals(model: CharNgram, batch: Batch) -> Values:
    """`char` and `worst` of each text; 1 for an empty one."""
    ids, begins = model.ids(batch)
    sums = np.concatenate(([0], np.cumsum(model.costs(ids), dtype=np.int64)))
    starts, ends = begins + model.order - 1, np.concatenate((begins[1:], [len(ids)]))
    lengths = np.maximum(ends - starts, 1)
    mean = (sums[ends] - sums[starts]) / lengths
    worst = np.zeros(batch.count)
    windows = -(-lengths // WINDOW)
    first = np.concatenate(([0], np.cumsum(windows)))
    owner = np.repeat(np.arange(batch.count), windows)
    # the last window is moved back to be whole: a few characters at the end say nothing
    begin = starts[owner] + (np.arange(first[-1]) - first[:-1][owner]) * WINDOW
    begin = np.maximum(np.minimum(begin, ends[owner] - WINDOW), starts[owner])
    stop = np.minimum(begin + WINDOW, ends[owner])
    np.maximum.at(worst, owner, (sums[stop] - sums[begin]) / np.maximum(stop - begin, 1))
    return {"char": np.exp2(mean / BIT), "worst": np.exp2(worst / BIT)}


def train(stage: NgramLmStage, out: Workspace) -> None:
    """Write the model and `report.json`: bits a character of held-out text, and how well damage is told from it."""
    batches = list(_batches(stage))
    characters = frequent_characters(batches, stage.order)
    trainer = Trainer(stage.lang, stage.order, characters)
    for batch in track(batches, tr("n-grams", "n-gram")):
        trainer.add(batch)
    model = trainer.model(stage.size)
    model.save(out.path / FILE)
    report = _report(stage, model)
    write_json(out.path / "report.json", report)
    out.results.update({name: value for name, value in report.items() if isinstance(value, int | float)})


def _batches(stage: NgramLmStage) -> Iterator[Batch]:
    """Training texts of the language in batches of a million characters; of more than `max_mb`, a share that their
    ids choose, so that every source is in it."""
    size = sum(len(text.encode()) for _, text in _documents(stage))
    share = min(1.0, stage.max_mb * 1e6 / max(1, size))
    held: list[str] = []
    length = 0
    for name, text in _documents(stage):
        if derive_seed(stage.seed, name) % (1 << 20) < share * (1 << 20):
            held.append(text)
            length += len(text)
        if length > 1_000_000:
            yield Batch(held, stage.lang)
            held, length = [], 0
    if held:
        yield Batch(held, stage.lang)


def _documents(stage: NgramLmStage) -> Iterator[tuple[str, str]]:
    """(id, text) of the training texts of the language."""
    for document in read_documents(stage.corpus, "train"):
        if document["lang"] == stage.lang:
            yield document["id"], document["text"]


def _report(stage: NgramLmStage, model: CharNgram) -> dict[str, object]:
    texts = [
        document["text"]
        for split in ("valid", "test")
        for document in read_documents(stage.corpus, split)
        if document["lang"] == stage.lang
    ][:HELD_OUT]
    if not texts:
        raise LuhuoError(
            tr("The corpus holds out no text of this language.", "语料没有为该语言留出文本。"),
            expected=tr("texts in valid or test", "valid 或 test 中的文本"),
            found=stage.lang,
            where=stage.corpus,
        )
    rng = random.Random(derive_seed(stage.seed, "damage"))
    parts = [text[:DAMAGED_CHARS] for text in texts]
    clean = signals(model, Batch(parts, stage.lang))["char"]
    told: dict[str, object] = {
        "lang": stage.lang,
        "order": stage.order,
        "ngrams": sum(map(len, model.keys.values())),
        "texts": len(texts),
        "bits": round(float(np.log2(clean).mean()), 4),
        "char.median": round(float(np.median(clean)), 2),
        "char.99%": round(float(np.quantile(clean, 0.99)), 2),
    }
    for name, damage in DAMAGES.items():
        bad = signals(model, Batch([damage(part, rng) for part in parts], stage.lang))["char"]
        told[f"auc.{name}"] = round(auc(bad, clean), 4)
    return told


def _shuffled(text: str, rng: random.Random) -> str:
    """The same characters in any order."""
    return "".join(rng.sample(text, len(text)))


def _swapped(text: str, rng: random.Random) -> str:
    """One character in five changed places with its neighbour, as after bad optical recognition of columns."""
    signs = list(text)
    for i in range(len(signs) - 1):
        if rng.random() < 0.2:
            signs[i], signs[i + 1] = signs[i + 1], signs[i]
    return "".join(signs)


def _replaced(text: str, rng: random.Random) -> str:
    """One character in ten replaced by another of the text."""
    return "".join(rng.choice(text) if rng.random() < 0.1 else sign for sign in text)


def _misread(text: str, rng: random.Random) -> str:
    """UTF-8 read as GBK, or of ASCII each letter by its neighbour in the alphabet."""
    if text.isascii():
        return "".join(chr(ord(c) + 1) if c.isalpha() else c for c in text)
    return text.encode().decode("gbk", "replace")


DAMAGES = {"shuffled": _shuffled, "swapped": _swapped, "replaced": _replaced, "misread": _misread}
"""What is done to held-out text, for measuring."""
