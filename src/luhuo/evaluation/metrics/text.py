"""Translation measures of a whole set: BLEU and chrF, computed by sacrebleu, with the signature that names them.

sacrebleu is the definition of these numbers (Post 2018), so it is called and not rebuilt. What is decided here is
the tokenisation that belongs to the target language, and that nothing is compared without its signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.core.language import tr

TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}
"""The tokenisation of sacrebleu by target language; all others: 13a. Written without spaces, or nearly so, and no
further package: "char" for Japanese and Korean (their own tokenisers need MeCab)."""


@dataclass(frozen=True)
class CorpusScore:
    """A score from 0 to 100, the signature to be printed beside it, and where asked for half its 95% interval."""

    score: float
    signature: str
    half: float | None = None

    def row(self, n: int) -> dict[str, Any]:
        """As a score of a set of n items in a result file, where all scores are shares of 1."""
        value, half = self.score / 100, self.half
        ends = {} if half is None else {"low": max(value - half / 100, 0.0), "high": min(value + half / 100, 1.0)}
        return {"value": value, "n": n, "chance": None, "stderr": None, "signature": self.signature, **ends}


def bleu(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], target: str, resamples: int = 1
) -> CorpusScore:
    """Corpus BLEU (Papineni et al. 2002) with sacrebleu's defaults and the tokenisation of the language `target`.

    `references[i]` are the accepted translations of item i; `resamples` > 1 also gives sacrebleu's bootstrap
    interval (Koehn 2004; its seed is fixed). Raises `LuhuoError` for sets that do not fit together.
    """
    return _corpus(_bleu_of(target), hypotheses, references, resamples)


def chrf(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], word_order: int = 0, resamples: int = 1
) -> CorpusScore:
    """Corpus chrF2 (Popović 2015), with `word_order=2` chrF++. See `bleu`."""
    return _corpus(_chrf_of(word_order), hypotheses, references, resamples)


def sentence_bleu(hypothesis: str, references: Sequence[str], target: str) -> float:
    """BLEU of one sentence with effective order: for looking at items; a set's BLEU is no mean of these."""
    return _bleu_of(target, effective_order=True).sentence_score(hypothesis, list(references)).score


def sentence_chrf(hypothesis: str, references: Sequence[str], word_order: int = 0) -> float:
    """chrF of one sentence. See `sentence_bleu`."""
    return _chrf_of(word_order).sentence_score(hypothesis, list(references)).score


def _bleu_of(target: str, effective_order: bool = False) -> Any:
    return _sacrebleu().BLEU(tokenize=TOKENIZERS.get(target, "13a"), effective_order=effective_order)


def _chrf_of(word_order: int) -> Any:
    return _sacrebleu().CHRF(word_order=word_order)


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise missing_extra("sacrebleu", "eval") from None
    return metrics


def _corpus(
    metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]], resamples: int
) -> CorpusScore:
    if not hypotheses or len(hypotheses) != len(references) or not all(references):
        raise LuhuoError(
            tr("These translations cannot be scored.", "这些译文无法评分。"),
            expected=tr("as many translations as items, each with a reference", "译文数等于题目数，且每题有参考译文"),
            found=f"{len(hypotheses)} / {len(references)}",
        )
    most = max(map(len, references))
    streams = [[row[place] if place < len(row) else None for row in references] for place in range(most)]
    result = metric.corpus_score(list(hypotheses), streams, n_bootstrap=resamples)
    half = float(result._ci) if resamples > 1 else None
    return CorpusScore(result.score, str(metric.get_signature()), half)
