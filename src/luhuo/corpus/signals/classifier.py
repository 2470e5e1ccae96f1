"""A trainable quality classifier: logistic regression over hashed n-grams (fastText-style), with honest probabilities.

The score of a text with features f_1 … f_n is s(a z + b), z = sum of w[f_i] / sqrt(n), s the logistic function; a
and b are fitted afterwards on texts that the weights have not seen (Platt 1999), so that of texts scored 0.8 four in
five are positive. Weights are trained by AdaGrad (Duchi et al. 2011) in random order, and kept as whole numbers: the
sum of a text is the same on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.signals.batch import Batch, Integers, Values
from luhuo.corpus.signals.text_features import Buckets, Shape, by_text

FORMAT = "luhuo-text-classifier-1"
FILE = "classifier.safetensors"
UNIT = 1 << 16
"""A weight of 1 is kept as this."""
LARGEST = 1 << 30

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pull:
    """An n-gram of a text, how often it occurs, and how far it moves z (above 0: towards `positive`)."""

    text: str
    count: int
    weight: float


@dataclass(frozen=True)
class Classifier:
    """Weights by feature, and the two numbers that make probabilities of their sums."""

    positive: str
    labels: tuple[str, ...]
    shape: Shape
    weights: npt.NDArray[np.int32]
    slope: float
    offset: float

    def sums(self, batch: Batch) -> Floats:
        """z of each text."""
        total, count = np.zeros(batch.count, np.int64), np.zeros(batch.count, np.int64)
        for group in self.shape.groups(batch):
            first = np.searchsorted(group.spans.documents, np.arange(batch.count + 1))
            sums = np.concatenate(([0], np.cumsum(self.weights[group.buckets], dtype=np.int64)))
            total += sums[first[1:]] - sums[first[:-1]]
            count += np.diff(first)
        return total / UNIT / np.sqrt(np.maximum(count, 1))

    def scores(self, batch: Batch) -> Floats:
        """The probability of `positive` for each text."""
        return logistic(self.slope * self.sums(batch) + self.offset)

    def explain(self, text: str, lang: str = "en", most: int = 20) -> tuple[float, list[Pull]]:
        """The score of a text, and the n-grams that pulled it hardest to either side."""
        batch = Batch([text], lang)
        found: dict[str, tuple[int, float]] = {}
        size = 0
        for group in self.shape.groups(batch):
            size += len(group.buckets)
            pulls = self.weights[group.buckets] / UNIT
            for start, end, pull in zip(group.spans.starts, group.spans.ends, pulls, strict=True):
                piece = batch.joined[start:end]
                count, weight = found.get(piece, (0, 0.0))
                found[piece] = (count + 1, weight + float(pull))
        scale = self.slope / np.sqrt(max(size, 1))
        ranked = sorted(found.items(), key=lambda item: (-abs(item[1][1]), item[0]))[:most]
        return float(self.scores(batch)[0]), [Pull(name, n, weight * scale) for name, (n, weight) in ranked]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, the same bytes for the same model."""
        told = {
            "format": FORMAT,
            "positive": self.positive,
            "labels": self.labels,
            "shape": asdict(self.shape),
            "slope": self.slope,
            "offset": self.offset,
        }
        with atomic_path(path) as temporary:
            save_file({"weights": self.weights}, temporary, metadata={"luhuo": json.dumps(told)})

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """Read a classifier, from its file or from the artifact of stage `text-classifier`. Raises `LuhuoError`."""
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {}).get("luhuo", "{}"))
                if told.get("format") != FORMAT:
                    raise _no_model(path, told.get("format"))
                weights = file.get_tensor("weights")
            shape = Shape(**told["shape"])
            slope, offset = float(told["slope"]), float(told["offset"])
            if not (shape.fits() and np.isfinite([slope, offset]).all()):
                raise _no_model(path, told)
            if weights.shape != (1 << shape.bits,) or weights.dtype != np.int32:
                raise _no_model(path, f"{weights.dtype} {weights.shape}")
            return cls(str(told["positive"]), tuple(map(str, told["labels"])), shape, weights, slope, offset)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise _no_model(path, error) from None


class Model:
    """Classifiers by language as the family `quality`: the signal `quality.score`."""

    family = "quality"

    def __init__(self, classifiers: Mapping[str, Classifier]) -> None:
        self._classifiers = dict(classifiers)

    def measure(self, batch: Batch) -> Values:
        """The scores; nothing for other languages."""
        found = self._classifiers.get(batch.lang)
        return {"score": found.scores(batch)} if found else {}


def _no_model(path: Path, found: object) -> LuhuoError:
    return LuhuoError(
        tr("This is not a text classifier.", "这不是文本分类器。"),
        expected=FORMAT,
        found=found,
        where=path,
        fix=tr("Train one with `luhuo text-classifier`.", "请用 `luhuo text-classifier` 训练一个。"),
    )


def logistic(z: Floats) -> Floats:
    """1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-np.clip(z, -40, 40)))


@dataclass(frozen=True)
class Course:
    """How weights are trained."""

    epochs: int = 6
    rate: float = 0.3
    l2: float = 1e-4
    batch: int = 16
    balanced: bool = True


def fit(
    buckets: Buckets, starts: Integers, truth: npt.NDArray[np.bool_], size: int, course: Course, seed: int
) -> Floats:
    """Weights by AdaGrad. `buckets[starts[i]:starts[i + 1]]` are the features of text i; `truth` whether it is
    positive. With `balanced` both kinds count alike, however many there are of each."""
    rng = np.random.default_rng(seed)
    weights, energy = np.zeros(size), np.full(size, 1e-6)
    counts = np.diff(starts)
    scale = 1 / np.sqrt(np.maximum(counts, 1))
    share = np.clip(truth.mean(), 1e-6, 1 - 1e-6)
    worth = np.where(truth, 0.5 / share, 0.5 / (1 - share)) if course.balanced else np.ones(len(truth))
    for epoch in range(course.epochs):
        order = rng.permutation(len(truth))
        rate = course.rate * (1 - epoch / course.epochs)
        for begin in range(0, len(order), course.batch):
            some = order[begin : begin + course.batch]
            places = np.concatenate([buckets[starts[i] : starts[i + 1]] for i in some])
            owner = np.repeat(np.arange(len(some)), counts[some])
            z = np.bincount(owner, weights[places], len(some)) * scale[some]
            error = worth[some] * (logistic(z) - truth[some]) * scale[some]
            touched, where = np.unique(places, return_inverse=True)
            slope = np.bincount(where, error[owner]) + course.l2 * weights[touched]
            energy[touched] += slope**2
            weights[touched] -= rate * slope / np.sqrt(energy[touched])
    return weights


def whole(weights: Floats) -> npt.NDArray[np.int32]:
    """The weights as they are kept."""
    return np.clip(np.round(weights * UNIT), -LARGEST, LARGEST).astype(np.int32)


def platt(z: Floats, truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset that make probabilities of sums (Platt 1999, with his targets short of 0 and 1), by Newton."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))
    slope, offset = 1.0, 0.0
    for _ in range(50):
        said = logistic(slope * z + offset)
        error, spread = said - target, np.maximum(said * (1 - said), 1e-9)
        gradient = np.array([(error * z).sum() + 1e-6 * slope, error.sum()])
        cross = (spread * z).sum()
        curve = np.array([[(spread * z * z).sum() + 1e-6, cross], [cross, spread.sum() + 1e-9]])
        step = np.linalg.solve(curve, gradient)
        slope, offset = slope - step[0], offset - step[1]
        if np.abs(step).max() < 1e-9:
            break
    return round(float(slope), 6), round(float(offset), 6)


def features(texts: list[str], shape: Shape) -> tuple[Buckets, Integers]:
    """`by_text` of many texts, in batches."""
    parts, starts, size, held = [], [np.zeros(1, np.int64)], 0, 0
    group: list[str] = []
    for i, text in enumerate(texts):
        group.append(text)
        held += len(text)
        if held > 1_000_000 or i == len(texts) - 1:
            buckets, begins = by_text(Batch(group, "en"), shape)
            parts.append(buckets)
            starts.append(begins[1:] + size)
            size += len(buckets)
            group, held = [], 0
    return np.concatenate(parts), np.concatenate(starts)
