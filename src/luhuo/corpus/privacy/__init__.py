"""Personal data in text: found by rules that can be precise, replaced consistently, accounted for without being shown.

`find(text, lang) -> [Span]`, `replace(text, spans, style=, key=) -> str`, and `Audit` (docs/corpus-privacy.md).
"""

from luhuo.corpus.privacy.audit import Audit, masked
from luhuo.corpus.privacy.detection import find
from luhuo.corpus.privacy.kinds import DEFAULT, KINDS, Kind, Span
from luhuo.corpus.privacy.replacement import replace

__all__ = ["DEFAULT", "KINDS", "Audit", "Kind", "Span", "find", "masked", "replace"]
