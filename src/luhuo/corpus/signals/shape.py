"""What any text is made of: sizes, and the shares of letters, digits, capitals, symbols and addresses."""

from __future__ import annotations

import numpy as np

from luhuo.corpus.signals.batch import Batch, Integers, Values, ratio
from luhuo.corpus.signals.characters import ALPHA, DIGIT, SPACE, UPPER, WORD


def measure(batch: Batch) -> Values:
    """Signals of the family `shape`; shares are of the characters that are no blanks."""
    lines, visible = batch.lines, batch.visible
    letters = batch.per_document(batch.of_kind(ALPHA))
    longest = np.zeros(batch.count, np.int64)
    np.maximum.at(longest, lines.documents, lines.lengths)
    return {
        "characters": batch.ends - batch.starts,
        "lines": batch.count_of(lines.documents),
        "longest_line": longest,
        "letters": ratio(letters, visible),
        "digits": ratio(batch.per_document(batch.of_kind(DIGIT)), visible),
        "symbols": ratio(batch.per_document(~batch.of_kind(WORD | SPACE)), visible),
        "capitals": ratio(batch.per_document(batch.of_kind(UPPER)), letters),
        "exclamations": ratio(batch.per_document(batch.among("!！")), visible),
        "links": ratio(_links(batch), visible),
    }


def _links(batch: Batch) -> Integers:
    """Characters of each document in addresses: what hangs together without blanks, in ASCII, around "://" or behind
    "www."."""
    codes = batch.lower
    slashes = np.flatnonzero(codes == np.uint32(ord("/")))
    slashes = slashes[(slashes > 0) & (slashes < len(codes) - 1)]
    schemes = slashes[(codes[slashes - 1] == np.uint32(ord(":"))) & (codes[slashes + 1] == np.uint32(ord("/")))]
    w = np.flatnonzero(codes == np.uint32(ord("w")))
    w = w[w < len(codes) - 3]
    www = (codes[w + 1] == codes[w]) & (codes[w + 2] == codes[w]) & (codes[w + 3] == np.uint32(ord(".")))
    places = np.concatenate((schemes, w[www]))
    if not len(places):
        return np.zeros(batch.count, np.int64)
    other = np.flatnonzero(batch.of_kind(SPACE) | (codes > np.uint32(126)))  # a text ends with a line feed
    after = np.searchsorted(other, places)
    ends, before = other[after], np.where(after > 0, other[np.maximum(after, 1) - 1] + 1, 0)
    starts, first = np.unique(before, return_index=True)
    return batch.total(batch.document_of(starts), ends[first] - starts)
