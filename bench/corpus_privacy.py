"""Personal data: speed and what is found in real text, recall on generated numbers, and telephone numbers beside the
package `phonenumbers` where it is installed: python bench/corpus_privacy.py DATA (the folder with zh_laws/ and so on).
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from luhuo.corpus.privacy import find
from luhuo.corpus.privacy.checksums import IBAN_LENGTHS, iban_remainder, luhn_digit, resident_check

SETS = (
    ("zh_laws/laws.jsonl.gz", "zh"),
    ("zh_docs/docs.jsonl.gz", "zh"),
    ("chinese_poetry/poems.jsonl.gz", "zh"),
    ("wikitext2/test_articles.jsonl.gz", "en"),
    ("gsm8k/train.jsonl.gz", "en"),
)
AROUND = {
    "zh": ("请核对{}，谢谢。", "他的号码是{}。", "|张三|{}|2023-01-02|", "登记人{}，金额1,234.50元", "{}"),
    "en": ("Please check {} before Friday.", "The form says {}.", "| Smith | {} | 2023-01-02 |", "value={}", "{}"),
}


def main() -> None:
    """Print the three tables."""
    data = Path(sys.argv[1])
    print("real text: MB/s of processor time, documents, documents with a span, spans by kind")
    for name, lang in SETS:
        texts = list(_texts(data / name))
        size, started = sum(len(text.encode()) for text in texts) / 1e6, time.process_time()
        found = [find(text, lang) for text in texts]
        rate = size / (time.process_time() - started)
        kinds = Counter(span.kind for spans in found for span in spans)
        print(f"  {name}: {rate:.1f} MB/s, {len(texts)}, {sum(map(bool, found))}, {dict(kinds)}")
    print("recall on 2,000 generated numbers in context")
    for kind, make in (("id_number", _resident), ("bank_card", _card), ("iban", _iban)):
        for lang in AROUND:
            print(f"  {kind} {lang}: {_recall(kind, make, lang):.4f}")
    _phones()


def _texts(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for row in map(json.loads, handle):
            parts = row.get("text") or row.get("paragraphs") or row.get("rows") or row["question"]
            yield parts if isinstance(parts, str) else "\n".join(map(str, parts))


def _recall(kind: str, make: Callable[[random.Random], str], lang: str, count: int = 2000) -> float:
    rng, hits = random.Random(f"{kind}{lang}"), 0
    for _ in range(count):
        value = make(rng)
        spans = find(rng.choice(AROUND[lang]).format(value), lang)
        hits += any(span.kind == kind and span.value == value for span in spans)
    return hits / count


def _digits(rng: random.Random, count: int) -> str:
    return "".join(str(rng.randrange(10)) for _ in range(count))


def _resident(rng: random.Random) -> str:
    area = rng.choice(("110101", "310104", "440305", "510107", "650102"))
    body = f"{area}{rng.randint(1930, 2015)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{_digits(rng, 3)}"
    return body + resident_check(body)


def _card(rng: random.Random) -> str:
    prefix, length = rng.choice((("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("622848", 19), ("6217", 16)))
    body = prefix + _digits(rng, length - len(prefix) - 1)
    return body + luhn_digit(body)


def _iban(rng: random.Random) -> str:
    country = rng.choice(("DE", "CH", "NL", "ES", "AT", "BE", "PL", "FR"))
    body = _digits(rng, IBAN_LENGTHS[country] - 4)
    return f"{country}{98 - iban_remainder(country + '00' + body):02d}{body}"


def _mobile(rng: random.Random) -> str:
    digits = rng.choice(("138", "159", "186", "199", "177")) + _digits(rng, 8)
    spaced = f"{digits[:3]} {digits[3:7]} {digits[7:]}"
    return rng.choice((digits, spaced, spaced.replace(" ", "-"), f"+86 {digits}"))


def _american(rng: random.Random) -> str:
    area, local = rng.choice(("212", "415", "617", "312")), f"{rng.randint(220, 899)}"
    local = "555" if local.endswith("11") else local
    line = _digits(rng, 4)
    return rng.choice((f"({area}) {local}-{line}", f"{area}-{local}-{line}", f"+1 {area}-{local}-{line}"))


def _things(rng: random.Random) -> str:
    """Numbers of things that are as long as telephone numbers."""
    form = rng.randrange(5)
    if form == 0:
        return f"订单号 1{rng.randint(3, 9)}{_digits(rng, 9)}"
    if form == 1:
        return f"ISBN 978-7-{_digits(rng, 3)}-{_digits(rng, 5)}-{_digits(rng, 1)}"
    if form == 2:
        day = f"20{rng.randint(10, 24)}-{rng.randint(10, 12)}-{rng.randint(10, 28)}"
        return f"{day} {rng.randint(10, 23)}:{rng.randint(10, 59)}"
    return f"{_digits(rng, 3)}.{_digits(rng, 11)}" if form == 3 else f"共{rng.randint(2, 9)}{_digits(rng, 9)}字节"


def _phones() -> None:
    try:
        import phonenumbers
    except ImportError:
        print("phonenumbers is not installed: pip install phonenumbers")
        return

    def theirs(text: str, lang: str) -> list[str]:
        matcher = phonenumbers.PhoneNumberMatcher(text, "CN" if lang == "zh" else "US")
        return [match.raw_string for match in matcher]

    def ours(text: str, lang: str) -> list[str]:
        return [span.value for span in find(text, lang, {"phone"})]

    print("telephone numbers: found of 2,000, numbers of things taken for one of 2,000, MB/s on the generated lines")
    for name, look in (("luhuo", ours), ("phonenumbers", theirs)):
        rng, hits, wrong, size = random.Random(0), 0, 0, 0
        started = time.process_time()
        for number in range(2000):
            lang = "zh" if number % 2 else "en"
            value = (_mobile if lang == "zh" else _american)(rng)
            text = rng.choice(AROUND[lang]).format(value)
            thing = f"见 {_things(rng)} 。"
            size += len(text.encode()) + len(thing.encode())
            hits += any(value.endswith(one.strip("(")) or value in one for one in look(text, lang))
            wrong += bool(look(thing, "zh"))
        print(f"  {name}: {hits}, {wrong}, {size / 1e6 / (time.process_time() - started):.1f}")


if __name__ == "__main__":
    main()
