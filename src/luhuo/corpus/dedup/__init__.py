"""Which documents repeat others: exactly, nearly, in part, in meaning."""

from luhuo.corpus.dedup.verdict import Verdict, verdicts

__all__ = ["Verdict", "verdicts"]
