"""Translation tasks: BLEU and chrF of the set, chrF of each sentence for pairing two models item by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from luhuo.evaluation.metrics.text import bleu, chrf, sentence_chrf
from luhuo.evaluation.tasks.folders import first_of, rows_of
from luhuo.verify.answers import split_reasoning

RESAMPLES = 1000


class Translation:
    """The functions of a task whose rows have `src` and `ref`, into the language `target`."""

    def __init__(self, target: str) -> None:
        self.target = target

    def prepare(self, row: dict[str, Any]) -> dict[str, Any]:
        """`refs` are all accepted translations."""
        return row | {"refs": row.get("refs") or [row["ref"]]}

    def reference(self, document: dict[str, Any]) -> str:
        """The first accepted translation."""
        return document["refs"][0]

    def score(self, document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
        """chrF of the sentence, as all scores a share of 1."""
        return {"sentence_chrf": sentence_chrf(translated(outputs[0]), document["refs"]) / 100}

    def corpus(self, documents: Sequence[dict[str, Any]], outputs: Sequence[Sequence[str]]) -> dict[str, Any]:
        """BLEU and chrF of the set, with sacrebleu's signatures and bootstrap intervals."""
        found = [translated(replies[0]) for replies in outputs]
        wanted = [document["refs"] for document in documents]
        return {
            "bleu": bleu(found, wanted, self.target, RESAMPLES).row(len(found)),
            "chrf": chrf(found, wanted, resamples=RESAMPLES).row(len(found)),
        }


class Pairs(Translation):
    """Sentence pairs with a key a language: equal sources are one item with several references."""

    def __init__(self, source: str, target: str) -> None:
        super().__init__(target)
        self.source = source

    def rows(self, folder: Path | None, split: str, seed: int) -> Iterator[dict[str, Any]]:
        """One row a source sentence."""
        refs: dict[str, list[str]] = {}
        for row in rows_of(first_of(folder, ("tatoeba_cmn_eng.jsonl*",))):
            refs.setdefault(row[self.source], []).append(row[self.target])
        for number, (sentence, translations) in enumerate(refs.items()):
            yield {"id": str(number), "src": sentence, "refs": list(dict.fromkeys(translations))}


def translated(reply: str) -> str:
    """The translation in a reply: what is said after any reasoning."""
    return split_reasoning(reply)[1].strip()
