"""Text that was read in a wrong encoding ("mojibake") and cannot be read by anyone.

- `replacement`: share of U+FFFD, what a decoder writes for bytes it does not understand.
- `latin1`: share of characters in pairs that UTF-8 gives when it is read as Latin-1 or Windows-1252: a lead byte
  (U+00C2 to U+00F4) and continuation bytes (U+0080 to U+00BF, their Windows-1252 letters, or U+FFFD).
- `gbk`: share of characters that UTF-8 read as GBK gives and that hardly occur otherwise: one of their two bytes is a
  lead byte of Chinese in UTF-8 (0xE4 to 0xE9), the other a continuation byte, and neither GB 2312 nor frequent
  Big5 has them; and 锟斤拷 (U+FFFD twice, read as GBK), 烫 and 屯 in a row (memory that was never written).
- `private`: share of code points of private use.
"""

from __future__ import annotations

import functools

import numpy as np

from luhuo.corpus.signals.batch import Batch, Integers, Values, ratio

WINDOWS_1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
LONGEST_RUN = 3
"""烫 or 屯 this often in a row are no words."""


def measure(batch: Batch) -> Values:
    """Signals of the family `damage`."""
    visible = batch.visible
    return {
        "replacement": ratio(batch.per_document(batch.codes == np.uint32(0xFFFD)), visible),
        "latin1": ratio(_latin1(batch), visible),
        "gbk": ratio(_gbk(batch), visible),
        "private": ratio(batch.per_document((batch.codes - np.uint32(0xE000)) < np.uint32(0x1900)), visible),
    }


def _latin1(batch: Batch) -> Integers:
    """Characters in such pairs, and continuation bytes that follow them."""
    high = (batch.codes - np.uint32(0xC2)) < np.uint32(0x33)
    if not high.any():
        return np.zeros(batch.count, np.int64)
    follows = ((batch.codes - np.uint32(0x80)) < np.uint32(0x40)) | batch.among(WINDOWS_1252 + "\ufffd")
    one, two = (np.concatenate((follows[n:], np.zeros(n, bool))) for n in (1, 2))
    inside = high & one & (two | (batch.codes < np.uint32(0xE0)))  # from 0xE0 on, two bytes follow: not so in café”
    for _ in range(LONGEST_RUN):  # a character of UTF-8 has up to three continuation bytes
        inside[1:] |= inside[:-1] & follows[1:]
    return batch.per_document(inside)


@functools.cache
def big5_frequent() -> str:
    """The 5,401 frequent characters of Big5 (its level 1)."""
    rows = (bytes((lead, trail)) for lead in range(0xA4, 0xC7) for trail in (*range(0x40, 0x7F), *range(0xA1, 0xFF)))
    return "".join(row.decode("big5", "ignore") for row in rows)


@functools.cache
def gbk_marks() -> str:
    """Characters of GBK alone whose bytes are those of Chinese in UTF-8."""
    leads, others = range(0xE4, 0xEA), range(0x81, 0xC0)
    pairs = [pair for lead in leads for other in others for pair in ((lead, other), (other, lead))]
    found = {bytes(pair).decode("gbk", "ignore") for pair in pairs} - set(big5_frequent())
    return "".join(sorted(c for c in found if len(c) == 1 and not c.encode("gb2312", "ignore")))


def _gbk(batch: Batch) -> Integers:
    codes = batch.codes
    bad = batch.among(gbk_marks())
    kun = np.flatnonzero(codes == np.uint32(ord("锟")))
    kun = kun[kun < len(codes) - 2]
    kun = kun[(codes[kun + 1] == np.uint32(ord("斤"))) & (codes[kun + 2] == np.uint32(ord("拷")))]
    for shift in range(3):
        bad[kun + shift] = True
    for sign in "烫屯":
        same = codes == np.uint32(ord(sign))
        if same.any():
            before = np.concatenate(([False], same[:-1]))
            starts, ends = np.flatnonzero(same & ~before), np.flatnonzero(before & ~same)
            for start, end in zip(starts, ends, strict=True):
                if end - start >= LONGEST_RUN:
                    bad[start:end] = True
    return batch.per_document(bad)
