"""Retrieval tasks: for each query a ranking of all documents, by the model's vectors and by BM25 beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.metrics.retrieval import measures
from luhuo.evaluation.search import BM25, best, vectors
from luhuo.evaluation.tasks.folders import first_of, rows_of
from luhuo.inference.engine import Engine

DEPTH = 1000
"""Documents of a ranking that are looked at."""
CHUNK = 256
"""Documents embedded at once."""


@dataclass(frozen=True)
class Collection:
    """Globs of a collection in BEIR's layout, the first that finds a file counting."""

    corpus: tuple[str, ...] = ("corpus.jsonl*",)
    queries: tuple[str, ...] = ("queries.jsonl*",)
    judgements: tuple[str, ...] = ("qrels/test.tsv*", "qrels_test.tsv*", "qrels.tsv*")

    @classmethod
    def named(cls, prefix: str) -> Collection:
        """With a name in front of each file."""
        return cls((f"{prefix}_corpus.jsonl*",), (f"{prefix}_queries.jsonl*",), (f"{prefix}_qrels.tsv*",))

    def evaluate(self, engine: Engine, folder: Path | None, settings: AskSettings) -> Iterator[dict[str, Any]]:
        """The measures of each judged query: the model's, and with `bm25.` in front those of BM25."""
        documents, grades = self.documents(folder), self.grades(folder)
        asked = {str(row["_id"]): row["text"] for row in rows_of(first_of(folder, self.queries))}
        chosen = [name for name in asked if any(grade > 0 for grade in grades.get(name, {}).values())]
        if not chosen or not documents:
            raise LuhuoError(tr("The collection has no judged query.", "该检索集没有带标注的查询。"), where=folder)
        if settings.limit is not None:
            drawn = set(sorted(chosen, key=lambda name: derive_seed(0, "query", name))[: settings.limit])
            chosen = [name for name in chosen if name in drawn]
        names, matrix, index = list(documents), _matrix(engine, list(documents.values())), BM25(documents)
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK]
            for name, scores in zip(part, _matrix(engine, [asked[n] for n in part]) @ matrix.T, strict=True):
                found = measures([names[i] for i in best(scores, DEPTH)], grades[name])
                beside = measures(index.ranking(asked[name], DEPTH), grades[name])
                both = found | {f"bm25.{key}": value for key, value in beside.items()}
                yield {"id": name, "prompt": asked[name], "scores": both}

    def documents(self, folder: Path | None) -> dict[str, str]:
        """The text of each document, its title in front."""
        return {
            str(row["_id"]): " ".join(filter(None, (row.get("title"), row["text"])))
            for row in rows_of(first_of(folder, self.corpus))
        }

    def grades(self, folder: Path | None) -> dict[str, dict[str, float]]:
        """What is known of each query."""
        grades: dict[str, dict[str, float]] = {}
        for row in rows_of(first_of(folder, self.judgements)):
            grades.setdefault(str(row["query-id"]), {})[str(row["corpus-id"])] = float(row["score"])
        return grades


def _matrix(engine: Engine, texts: list[str]) -> np.ndarray:
    """Vectors of length one, (texts, hidden)."""
    parts = [vectors(engine, texts[start : start + CHUNK]).numpy() for start in range(0, len(texts), CHUNK)]
    found = np.concatenate(parts)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
