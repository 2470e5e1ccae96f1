"""Stage `text-classifier` at work: labelled texts to a classifier and an honest report of it.

A part of the texts, chosen by their hash, fixes the probabilities; another, or files of their own, is only measured.
A text that occurs in both training and test files is left out of training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.corpus.normalise import normalise
from luhuo.corpus.signals.batch import Batch
from luhuo.corpus.signals.classifier import FILE, Classifier, Course, features, fit, logistic, platt, whole
from luhuo.corpus.signals.detection import at_thresholds, auc, calibration
from luhuo.corpus.signals.text_features import Shape
from luhuo.files.readers import read_records
from luhuo.files.records import Broken

if TYPE_CHECKING:
    from luhuo.corpus.signals.stages import TextClassifierStage

FEWEST = 10
"""Texts of each label that training needs."""
STRONGEST = 30
SHOWN = 2000
"""Texts that are searched for the strongest n-grams."""


@dataclass(frozen=True)
class Labelled:
    """Texts and their labels."""

    texts: list[str]
    labels: list[str]

    def where(self, chosen: Sequence[bool]) -> Labelled:
        """The rows that are chosen."""
        rows = [i for i, yes in enumerate(chosen) if yes]
        return Labelled([self.texts[i] for i in rows], [self.labels[i] for i in rows])

    def truth(self, positive: str) -> npt.NDArray[np.bool_]:
        """Which are of the positive label."""
        return np.array([label == positive for label in self.labels], bool)


def train(stage: TextClassifierStage, out: Workspace) -> None:
    """Write the classifier and `report.json`."""
    rows = read_labelled(stage.data, stage.text_field, stage.label_field, stage.max_chars)
    places = [_place(text, stage.seed) for text in rows.texts]
    if stage.test:
        test = read_labelled(stage.test, stage.text_field, stage.label_field, stage.max_chars)
        asked = set(test.texts)
        places = [1.0 if text in asked else place for text, place in zip(rows.texts, places, strict=True)]
        learn, fix = _between(rows, places, stage.held_out, 1.0), _between(rows, places, 0.0, stage.held_out)
    else:
        test = _between(rows, places, 0.0, stage.held_out)
        fix = _between(rows, places, stage.held_out, 2 * stage.held_out)
        learn = _between(rows, places, 2 * stage.held_out, 1.0)
    for name, part in {"train": learn, "calibration": fix, "test": test}.items():
        _require_both(name, part, stage)
    classifier = _trained(stage, learn, fix)
    classifier.save(out.path / FILE)
    report = {
        "positive": stage.positive,
        "texts": {"train": len(learn.texts), "calibration": len(fix.texts), "test": len(test.texts)},
        "labels": dict(sorted(Counter(rows.labels).items())),
        **measured(classifier, test),
        "strongest": strongest(classifier, learn.texts[:SHOWN]),
    }
    write_json(out.path / "report.json", report)
    out.results.update({name: report[name] for name in ("accuracy", "auc", "calibration_error", "majority")})


def read_labelled(files: Sequence[str], text_field: str, label_field: str, max_chars: int) -> Labelled:
    """The texts of files with their labels (as strings). A text with two labels keeps the first. `LuhuoError` if a
    record has no label."""
    found: dict[str, str] = {}
    for file in files:
        for record in read_records(file, text_field=text_field):
            if isinstance(record, Broken):
                continue
            label = record.fields.get(label_field)
            if not isinstance(label, str | int | float):
                raise LuhuoError(
                    tr("This record has no label.", "这条记录没有标签。"),
                    expected=label_field,
                    found=", ".join(record.fields),
                    where=f"{record.file}:{record.line}",
                )
            found.setdefault(normalise(record.text)[:max_chars], str(label))
    return Labelled(list(found), list(found.values()))


def measured(classifier: Classifier, test: Labelled) -> dict[str, Any]:
    """Accuracy, area under the curve, calibration, precision and recall by threshold, of texts never seen."""
    scores = np.concatenate([classifier.scores(Batch(part, "en")) for part in _parts(test.texts)])
    truth = test.truth(classifier.positive)
    error, bins = calibration(scores, truth)
    return {
        "accuracy": round(float(((scores >= 0.5) == truth).mean()), 4),
        "majority": round(float(max(truth.mean(), 1 - truth.mean())), 4),
        "auc": round(auc(scores[truth], scores[~truth]), 4),
        "calibration_error": error,
        "calibration": bins,
        "thresholds": at_thresholds(scores[truth], scores[~truth]),
    }


def strongest(classifier: Classifier, texts: list[str]) -> dict[str, list[str]]:
    """The n-grams of these texts with the largest weights for and against the positive label."""
    best: dict[str, int] = {}
    for part in _parts(texts):
        batch = Batch(part, "en")
        for group in classifier.shape.groups(batch):
            weights = classifier.weights[group.buckets]
            _, first = np.unique(group.buckets, return_index=True)
            order = np.argsort(weights[first], kind="stable")
            for i in first[np.concatenate((order[:STRONGEST], order[-STRONGEST:]))]:
                best[batch.joined[group.spans.starts[i] : group.spans.ends[i]].lower()] = int(weights[i])
    ranked = sorted(best, key=lambda piece: (best[piece], piece))
    return {
        "for": [piece for piece in reversed(ranked[-STRONGEST:]) if best[piece] > 0],
        "against": [piece for piece in ranked[:STRONGEST] if best[piece] < 0],
    }


def _trained(stage: TextClassifierStage, learn: Labelled, fix: Labelled) -> Classifier:
    shape = Shape(stage.ngrams, stage.letters, stage.bits)
    course = Course(stage.epochs, stage.rate, stage.l2, balanced=stage.balanced)
    buckets, starts = features(learn.texts, shape)
    seed = derive_seed(stage.seed, "classifier")
    weights = whole(fit(buckets, starts, learn.truth(stage.positive), 1 << shape.bits, course, seed))
    raw = Classifier(stage.positive, tuple(sorted(set(learn.labels))), shape, weights, 1.0, 0.0)
    sums = np.concatenate([raw.sums(Batch(part, "en")) for part in _parts(fix.texts)])
    slope, offset = platt(sums, fix.truth(stage.positive))
    if logistic(np.array([slope]))[0] <= 0.5:
        raise LuhuoError(
            tr("The texts do not tell the labels apart.", "文本无法区分这些标签。"),
            expected=tr("labels that depend on the text", "与文本相关的标签"),
            found=f"AUC {auc(sums[fix.truth(stage.positive)], sums[~fix.truth(stage.positive)]):.2f}",
            where=", ".join(stage.data),
        )
    return Classifier(raw.positive, raw.labels, shape, weights, slope, offset)


def _place(text: str, seed: int) -> float:
    """A number in [0, 1) that belongs to a text."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{text}".encode()).digest()[:6], "big") / 2**48


def _between(rows: Labelled, places: Sequence[float], low: float, high: float) -> Labelled:
    return rows.where([low <= place < high for place in places])


def _parts(texts: list[str]) -> list[list[str]]:
    return [texts[i : i + 500] for i in range(0, len(texts), 500)]


def _require_both(name: str, part: Labelled, stage: TextClassifierStage) -> None:
    counts = Counter(part.labels)
    few = min(counts[stage.positive], len(part.labels) - counts[stage.positive])
    if few < (FEWEST if name == "train" else 1):
        raise LuhuoError(
            tr(f"Too few labelled texts ({name}).", f"带标签的文本太少（{name}）。"),
            expected=tr(f"texts labelled “{stage.positive}” and others", f"标签为“{stage.positive}”的文本和其他文本"),
            found=dict(sorted(counts.items())),
            where=", ".join(stage.data),
            fix=tr(
                "Label more texts with `luhuo label`, or set positive.",
                "用 `luhuo label` 标注更多文本，或设置 positive。",
            ),
        )
