"""Classification by an encoder's vectors: a linear probe, trained and tested on parts that do not meet.

The model itself stays as it is. Where the data have a training split the probe learns from that; otherwise the rows
are cut into five parts by seed, and each part is judged by a probe that learned from the other four.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.search import vectors
from luhuo.evaluation.tasks.folders import first_of, rows_of
from luhuo.inference.engine import Engine

FOLDS = 5
MOST = 4000
"""Rows of a split that are used, chosen by seed."""
DECAY = 1e-2
CHUNK = 256


@dataclass(frozen=True)
class Probe:
    """Globs of the rows to be judged and of those to learn from, the fields that make the text, and the label's."""

    test: tuple[str, ...]
    fields: tuple[str, ...]
    label: str = "label"
    train: tuple[str, ...] = ()

    def evaluate(self, engine: Engine, folder: Path | None, settings: AskSettings) -> Iterator[dict[str, Any]]:
        """Whether each row's label was found, and the share of the commonest label beside it."""
        rows = self._rows(first_of(folder, self.test), settings.limit or MOST)
        texts, labels = [text for _, text, _ in rows], [label for *_, label in rows]
        classes = sorted(set(labels))
        if len(classes) < 2 or len(rows) < 2 * FOLDS:
            raise LuhuoError(
                tr("There is too little to tell apart here.", "可区分的样本太少。"),
                expected=tr(f"two labels, {2 * FOLDS} rows", f"两种标签，{2 * FOLDS} 行"),
                found=f"{len(classes)}, {len(rows)}",
                where=folder,
            )
        states, wanted = self._states(engine, texts), torch.tensor([classes.index(label) for label in labels])
        if self.train:
            found = self._from_train(engine, folder, classes, states)
        else:
            found = folded(states, wanted, [derive_seed(0, "fold", name) % FOLDS for name, *_ in rows])
        common = float((wanted == wanted.mode().values).double().mean())
        for (name, text, label), place in zip(rows, found.tolist(), strict=True):
            right = float(classes[place] == label)
            yield {"id": name, "prompt": text, "outputs": [classes[place]], "reference": label, "chance": common,
                   "scores": {"accuracy": right}}  # fmt: skip

    def _from_train(self, engine: Engine, folder: Path | None, classes: list[str], states: Tensor) -> Tensor:
        rows = [row for row in self._rows(first_of(folder, self.train), MOST) if row[2] in classes]
        learned = self._states(engine, [text for _, text, _ in rows])
        return fitted(learned, torch.tensor([classes.index(label) for *_, label in rows]), states)

    def _rows(self, files: Sequence[Path], most: int) -> list[tuple[str, str, str]]:
        """(name, text, label), at most so many, in the files' order."""
        found = [
            (str(number), "\n".join(str(row[key]) for key in self.fields), str(row[self.label]))
            for number, row in enumerate(rows_of(files))
        ]
        chosen = sorted(found, key=lambda row: derive_seed(0, "probe", row[0]))[:most]
        return sorted(chosen, key=lambda row: int(row[0]))

    def _states(self, engine: Engine, texts: list[str]) -> Tensor:
        return torch.cat([vectors(engine, texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)])


def folded(states: Tensor, labels: Tensor, folds: Sequence[int]) -> Tensor:
    """The label of each row, by a probe that has not seen the row's fold."""
    fold, found = torch.tensor(folds), torch.zeros_like(labels)
    for number in set(folds):
        mine = fold == number
        found[mine] = fitted(states[~mine], labels[~mine], states[mine])
    return found


def fitted(states: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    """Labels of `asked` by a logistic regression on standardised `states` (L-BFGS from zero: no chance in it)."""
    mean, spread = states.double().mean(0), states.double().std(0).clamp_min(1e-6)
    x, y = (states.double() - mean) / spread, labels
    weight = torch.zeros(x.shape[1] + 1, int(labels.max()) + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(x @ weight[:-1] + weight[-1], y) + DECAY / 2 * weight[:-1].square().sum()
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    with torch.no_grad():
        return (((asked.double() - mean) / spread) @ weight[:-1] + weight[-1]).argmax(-1)
