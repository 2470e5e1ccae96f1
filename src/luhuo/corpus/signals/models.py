"""Opening the trained models whose signals are measured beside the others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from luhuo.corpus.signals import classifier, harmful, perplexity

if TYPE_CHECKING:
    from luhuo.corpus.signals import Model


def opened(settings: Mapping[str, Any]) -> tuple[Model, ...]:
    """The models of a dumped `stages.SignalModels`; the same ones are read once a process. Raises `LuhuoError`."""
    return _opened(
        tuple(settings["perplexity"]),
        tuple(sorted(settings["quality"].items())),
        tuple(sorted(settings["harmful"].items())),
    )


@lru_cache(maxsize=1)
def _opened(
    ngrams: tuple[str, ...], quality: tuple[tuple[str, str], ...], harm: tuple[tuple[str, str], ...]
) -> tuple[Model, ...]:
    found: list[Model] = [perplexity.Model.load(ngrams)] if ngrams else []
    if quality:
        found.append(classifier.Model({lang: classifier.Classifier.load(path) for lang, path in quality}))
    if harm:
        found.append(harmful.Model({lang: classifier.Classifier.load(path) for lang, path in harm}))
    return tuple(found)
