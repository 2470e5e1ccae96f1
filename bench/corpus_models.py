"""How well the character n-gram model tells damaged text, and how fast the trained models measure.

    LUHUO_TEST_DATA=DIR OMP_NUM_THREADS=1 python bench/corpus_models.py [OUT]

A model a language is trained on the real sources of `bench/corpus_clean.py` in pieces of 2,000 characters; a twentieth
is held out, damaged in four ways, and told from what it was (area under the curve, all sources together). Rates are MB
of UTF-8 a second of processor time on one core.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from corpus_clean import sources
from corpus_rules import mixture

from luhuo.core.artifact import produce
from luhuo.corpus import signals
from luhuo.corpus.signals import classifier, perplexity
from luhuo.corpus.signals.stages import NgramLmStage, TextClassifierStage
from luhuo.corpus.stages import CorpusStage, SourceConfig

DATA = Path(os.environ["LUHUO_TEST_DATA"])


def corpus(out: Path) -> str:
    """The real text as a corpus artifact."""
    found = []
    for name, (lang, texts) in sources(DATA).items():
        if name == "chinese_poetry":  # a language of its own: in one model with prose, each is strange to the other
            continue
        file = out / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
        found.append(SourceConfig(name=name, path=str(file), lang=lang, piece_chars=2000, valid=0.05, test=0))
    return str(produce("corpus", CorpusStage(sources=found), out / "corpus").path)


def rate(lang: str, model: signals.Model) -> float:
    """MB a second of one model's signals alone."""
    batches = mixture([texts for of, texts in sources(DATA).values() if of == lang], 10)
    megabytes = sum(len(text.encode()) for batch in batches for text in batch) / 1e6
    start = time.process_time()
    for batch in batches:
        signals.measure(batch, lang, [], [model])
    return megabytes / (time.process_time() - start)


def main() -> None:
    """Train and print."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    text = corpus(out)
    for lang in ("en", "zh"):
        for order in (4, 5):
            start = time.process_time()
            done = produce("ngram-lm", NgramLmStage(corpus=text, lang=lang, order=order), out / f"{lang}{order}")
            seconds = time.process_time() - start
            report = json.loads((done.path / "report.json").read_text(encoding="utf-8"))
            told = " ".join(f"{name} {report[name]}" for name in report if name.startswith(("auc", "char", "bits")))
            print(f"{lang} order {order}: {report['ngrams']} n-grams in {seconds:.1f} s, {told}")
            print(f"    perplexity {rate(lang, perplexity.Model.load([done.path])):.1f} MB/s")
    stage = TextClassifierStage(data=[f"{DATA}/coldataset/dev.csv.gz"], text_field="TEXT", positive="1")
    trained = classifier.Classifier.load(produce("text-classifier", stage, out / "classifier").path)
    for lang in ("en", "zh"):
        print(f"classifier {lang} {rate(lang, classifier.Model({lang: trained})):.1f} MB/s")


if __name__ == "__main__":
    main()
