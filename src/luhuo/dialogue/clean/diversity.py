"""Vectors of texts, and choosing texts that lie far apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luhuo.corpus.decontaminate.ngrams import gram_hashes, units_of

SIZE = 512
"""Dimensions of a vector."""
Vectors = NDArray[np.float32]
"""(texts, dimensions), each of length one."""


def hashed_vectors(texts: Sequence[str], size: int = SIZE) -> Vectors:
    """Words, Han characters and pairs of them, hashed with signs into so many places (Weinberger et al. 2009), weighed
    by the logarithm of their count and by how few of the texts have them."""
    rows, places, values, names = [], [], [], []
    for number, text in enumerate(texts):
        hashes = units_of(text).hashes
        found, counts = np.unique(np.concatenate([hashes, gram_hashes(hashes, 2)]), return_counts=True)
        rows.append(np.full(len(found), number))
        names.append(found)
        places.append((found % np.uint64(size)).astype(np.int64))
        values.append(np.log1p(counts) * np.where(found >> np.uint64(63), 1.0, -1.0))
    vectors = np.zeros((len(texts), size), dtype=np.float32)
    if not texts:
        return vectors
    _, number, spread = np.unique(np.concatenate(names), return_inverse=True, return_counts=True)
    rarity = np.log((1 + len(texts)) / (1 + spread))[number] + 0.1
    np.add.at(vectors, (np.concatenate(rows), np.concatenate(places)), np.concatenate(values) * rarity)
    return unit_length(vectors)


def unit_length(vectors: NDArray[np.floating]) -> Vectors:
    """Each vector divided by its length; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def k_center(vectors: Vectors, count: int) -> tuple[list[int], list[float]]:
    """Greedy k-center (Gonzalez 1985; Sener and Savarese 2018): first the vector nearest to the mean, then always the
    one that is farthest from all chosen ones. Returns the chosen places, and at each step the radius: the distance
    (1 - cosine) of the farthest vector from the chosen ones, at most twice the best there is for so many."""
    if not len(vectors) or count < 1:
        return [], []
    first = int((vectors @ unit_length(vectors.mean(0, keepdims=True))[0]).round(5).argmax())
    chosen, radii = [first], list[float]()
    distance = 1 - vectors @ vectors[first]
    distance[first] = -1.0
    while len(chosen) < min(count, len(vectors)):
        radii.append(max(0.0, float(distance.max())))
        place = int(distance.round(5).argmax())
        chosen.append(place)
        distance = np.minimum(distance, 1 - vectors @ vectors[place])
        distance[chosen] = -1.0
    radii.append(max(0.0, float(distance.max())))
    return chosen, radii
