"""Keeping benchmarks out of training text (docs/decontamination.md).

`Benchmarks.load({name: path}) -> Benchmarks`, `Benchmarks.hits(texts)`, `Benchmarks.look(texts)`; `ngrams` is what
every comparison of training text with test items is made of.
"""

from luhuo.corpus.decontaminate.index import Benchmarks, Hit
from luhuo.corpus.decontaminate.items import Fields, Item
from luhuo.corpus.decontaminate.rules import Rules

__all__ = ["Benchmarks", "Fields", "Hit", "Item", "Rules"]
