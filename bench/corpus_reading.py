"""How well and how fast is raw text read? Encodings, languages, mojibake and readers, on real text, on one core.

    LUHUO_TEST_DATA=DIR OMP_NUM_THREADS=1 python bench/corpus_reading.py [encodings] [languages] [mojibake] [readers]

Rates are MB of UTF-8 text a second of processor time. `charset-normalizer`, if installed, is asked for comparison.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import zstandard
from tests.document_cases import docx, epub, paragraph, pdf, response, tarred, zipped

from luhuo.corpus.languages import identify
from luhuo.corpus.mojibake import repair
from luhuo.files.encodings import detect
from luhuo.files.readers import read_file
from luhuo.files.records import Record

DATA = Path(os.environ["LUHUO_TEST_DATA"])
LENGTHS = (4, 8, 16, 50, 100_000)


def load(name: str, key: str = "text", count: int = 10**9) -> list[str]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line, _ in zip(handle, range(count), strict=False)]
    return [row[key] if isinstance(row[key], str) else "\n".join(row[key]) for row in rows]


def megabytes(texts: Iterable[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def encodings() -> None:
    """Pieces of real Chinese text written in each encoding: the share that is read back as it was."""
    simplified = load("zh_wiki_qa/cmrc_corpus.jsonl.gz", count=400) + load("zh_laws/laws.jsonl.gz", count=150)
    traditional = load("zh_wiki_qa/drcd_corpus.jsonl.gz", count=400)
    asked: list[tuple[str, Callable[[bytes], str | None]]] = [("luhuo", detect)]
    try:
        import charset_normalizer
    except ImportError:
        print("charset-normalizer is not installed")
    else:
        asked.append(
            ("charset-normalizer", lambda data: getattr(charset_normalizer.from_bytes(data).best(), "encoding", None))
        )
    print(f"{'encoding':22}{'':20}" + "".join(f"{n if n < 1000 else 'all':>8}" for n in LENGTHS) + "   chars")
    for name, texts, encoding in [
        *(("simplified", simplified, e) for e in ("gb18030", "utf-8", "utf-16", "utf-16-le", "utf-16-be")),
        *(("traditional", traditional, e) for e in ("big5", "gb18030", "utf-16-le")),
    ]:
        for who, ask in asked:
            some = texts if who == "luhuo" else texts[:60]
            shares = [_share(some, encoding, length, ask) for length in LENGTHS]
            print(f"{encoding + ' ' + name:22}{who:20}" + "".join(f"{share:8.3f}" for share in shares), flush=True)


def _share(texts: list[str], encoding: str, length: int, ask: Callable[[bytes], str | None]) -> float:
    rng = random.Random(0)
    right = total = 0
    for text in texts:
        start = rng.randrange(max(1, len(text) - length))
        try:
            data = text[start : start + length].encode(encoding)
        except UnicodeEncodeError:
            continue
        if data.isascii() and "16" not in encoding:
            continue
        total += 1
        try:
            right += data.decode(ask(data) or "ascii") == data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return right / total


def languages() -> None:
    """Real texts of one language each: what they are taken for, and how fast."""
    sets = {
        "drcd (zh, Hant)": load("zh_wiki_qa/drcd_corpus.jsonl.gz"),
        "cmrc (zh, Hans)": load("zh_wiki_qa/cmrc_corpus.jsonl.gz"),
        "zh_docs (zh with code)": load("zh_docs/docs.jsonl.gz"),
        "zh_laws (zh, Hans)": load("zh_laws/laws.jsonl.gz"),
        "tatoeba (zh sentences)": load("translation_zh_en/tatoeba_cmn_eng.jsonl.gz", "zh"),
        "tatoeba (en sentences)": load("translation_zh_en/tatoeba_cmn_eng.jsonl.gz", "en"),
        "cranfield (en abstracts)": [t for t in load("cranfield/corpus.jsonl.gz") if t],
        "wikitext2 (en articles)": load("wikitext2/test_articles.jsonl.gz", "rows"),
    }
    identify(["warm-up, s'il vous plaît"])
    for name, texts in sets.items():
        start = time.process_time()
        guesses = identify(texts)
        rate = megabytes(texts) / (time.process_time() - start)
        langs = " ".join(f"{lang} {n}" for lang, n in Counter(g.lang for g in guesses).most_common(4))
        scripts = " ".join(f"{script} {n}" for script, n in Counter(g.script for g in guesses).most_common(3))
        print(f"{name:26}{len(texts):6}  {langs:32} {scripts:36} {rate:6.0f} MB/s", flush=True)


def mojibake() -> None:
    """Clean text that is changed (none should be), and text read wrongly that is put right exactly."""
    clean = [t for name in ("zh_docs/docs", "zh_laws/laws", "zh_wiki_qa/drcd_corpus", "zh_wiki_qa/cmrc_corpus",
                            "cranfield/corpus") for t in load(f"{name}.jsonl.gz")]  # fmt: skip
    start = time.process_time()
    changed = sum(repair(text).text != text for text in clean)
    rate = megabytes(clean) / (time.process_time() - start)
    print(f"clean: {len(clean)} texts, {megabytes(clean):.1f} MB, {changed} changed, {rate:.0f} MB/s")
    ways: dict[str, Callable[[str], str]] = {
        "utf-8 as latin-1": lambda t: t.encode().decode("latin-1"),
        "utf-8 as latin-1 twice": lambda t: t.encode().decode("latin-1").encode().decode("latin-1"),
        "gb18030 as latin-1": lambda t: t.encode("gb18030").decode("latin-1"),
        "utf-8 as gb18030, lossy": lambda t: t.encode().decode("gb18030", "replace"),
    }
    for lang, name in (("zh Hans", "cmrc"), ("zh Hant", "drcd")):
        texts = load(f"zh_wiki_qa/{name}_corpus.jsonl.gz", count=300)
        for way, spoil in ways.items():
            found = [repair(spoil(text)) for text in texts]
            exact = sum(one.text == text for one, text in zip(found, texts, strict=True))
            print(f"{lang}: {way:26} found {sum(bool(f.how) for f in found):4}  exact {exact:4}  of {len(texts)}")


def readers() -> None:
    """The same Chinese and English paragraphs in each format, 5 MB (PDF 1 MB), and how fast they come out."""
    texts = (load("zh_wiki_qa/cmrc_corpus.jsonl.gz") + load("cranfield/corpus.jsonl.gz"))[::2]
    texts = [text.replace("&", "").replace("<", "") for text in texts if text] * 4
    jsonl = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    pages = "".join(
        f"<page><title>{n}</title><ns>0</ns><id>{n}</id><revision>"
        f"<text>{text} '''[[a|b]]''' {{{{t|x}}}}</text></revision></page>"
        for n, text in enumerate(texts)
    )
    lines = [text[at : at + 40] for text in texts[:700] for at in range(0, len(text), 40)]
    html = [f"<html><nav>menu</nav><main><p>{text}</p></main></html>".encode() for text in texts]
    files = {
        "a.jsonl": jsonl.encode(),
        "a.jsonl.zst": zstandard.compress(jsonl.encode()),
        "gb.jsonl": jsonl.encode("gb18030", "ignore"),
        "a.txt": "\n\n".join(texts).encode(),
        "a.docx": docx("".join(paragraph(text) for text in texts)),
        "a.epub": epub([f"<p>{text}</p>" for text in texts[:2000]]),
        "a.warc.gz": b"".join(gzip.compress(response(page)) for page in html),
        "a.xml": f"<mediawiki>{pages}</mediawiki>".encode(),
        "a.tar": tarred({f"{n}.txt": text.encode() for n, text in enumerate(texts)}),
        "a.zip": zipped({f"{n}.txt": text.encode() for n, text in enumerate(texts)}),
        "a.pdf": pdf([lines[at : at + 50] for at in range(0, len(lines), 50)]),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.write_bytes(data)
            start = time.process_time()
            found = [r.text for r in read_file(path, encoding="auto") if isinstance(r, Record)]
            seconds = time.process_time() - start
            print(
                f"{name:14}{len(found):7} records {megabytes(found):7.2f} MB {megabytes(found) / seconds:7.1f} MB/s",
                flush=True,
            )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["encodings", "languages", "mojibake", "readers"]
    for part in (encodings, languages, mojibake, readers):
        if part.__name__ in wanted:
            print(f"== {part.__name__}")
            part()
