"""How rich the generated text is: compression without digits, distinct 13-grams, counts."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

SAMPLE_BYTES = 5_000_000


def zlib_ratio(text: str) -> float:
    """Bytes of the text without digits over its size after `zlib -9`."""
    raw = re.sub(r"\d", "", text).encode()
    return round(len(raw) / max(1, len(zlib.compress(raw, 9))), 3)


def distinct_share(texts: Iterable[str], lang: str, n: int = 13) -> float:
    """Distinct n-grams over all n-grams: characters for Chinese, words for English."""
    seen: set[int] = set()
    total = 0
    for text in texts:
        units = [c for c in text if not c.isspace()] if lang == "zh" else text.split()
        for i in range(len(units) - n + 1):
            seen.add(zlib.crc32("\x1f".join(units[i : i + n]).encode()))
            total += 1
    return round(len(seen) / max(1, total), 4)


def richness(pages: list[tuple[str, str]]) -> dict[str, float]:
    """Measures of (text, lang) pages, on at most `SAMPLE_BYTES` of them."""
    sample, size = [], 0
    for text, lang in pages:
        size += len(text.encode())
        sample.append((text, lang))
        if size >= SAMPLE_BYTES:
            break
    out = {"sample_bytes": float(size), "zlib_ratio": zlib_ratio("\n".join(t for t, _ in sample))}
    for lang in ("en", "zh"):
        texts = [t for t, found in sample if found == lang]
        out[f"zlib_ratio.{lang}"] = zlib_ratio("\n".join(texts))
        out[f"distinct_13grams.{lang}"] = distinct_share(texts, lang)
    return out
