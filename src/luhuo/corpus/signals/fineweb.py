"""FineWeb's own signals: Penedo et al. 2024 (arXiv 2406.17557), section 3.6.

The paper drops a page where at most 12% of lines end with punctuation, where 10% or more of the characters are in
duplicate lines (`repetition.duplicate_line_chars`), or where 67% or more of the lines have fewer than 30 characters.
"""

from __future__ import annotations

import numpy as np

from luhuo.corpus.signals.batch import Batch, Values, ratio
from luhuo.corpus.signals.c4 import ends_in

SHORT = 30
PUNCTUATION = ".!?\"'”’…:;,)]}»。！？；：，、”’」』）】》"


def measure(batch: Batch) -> Values:
    """Signals of the family `fineweb`."""
    lines = batch.lines
    count = batch.count_of(lines.documents)
    breaks = batch.per_document(batch.codes == np.uint32(10)) - 1  # one follows each text
    return {
        "punctuated_lines": ratio(batch.count_of(lines.documents[ends_in(batch, PUNCTUATION)]), count),
        "short_lines": ratio(batch.count_of(lines.documents[lines.lengths < SHORT]), count),
        "breaks_per_word": ratio(breaks, batch.count_of(batch.words.documents)),
    }
