"""Span corruption: spans are taken out of a text, a decoder writes them (Raffel et al. 2020, section 3.1.4).

    read    Thank you <extra_id_0> me to your party <extra_id_1> week.
    written <extra_id_0> for inviting <extra_id_1> last

The share and mean length give the number of tokens and of spans exactly; where the spans lie and how the tokens fall
to them is random. UL2 (Tay et al. 2022, table 1) mixes several shares and lengths, and endings to be written, and
puts a token for the kind in front of what is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.corpus.fragments import Fragment
from luhuo.corpus.rows import Row
from luhuo.train.denoising.config import SpanConfig


@dataclass(frozen=True)
class Denoiser:
    """One way to take spans out."""

    rate: float
    mean: float
    """Mean length of a span; infinity: one span, at the end."""
    kind: str = ""
    """Which of UL2's three it is: R (regular), X (extreme) or S (sequential)."""

    def counts(self, tokens: int) -> tuple[int, int]:
        """(tokens taken out, spans) of a text of so many tokens."""
        if tokens < 2:
            return tokens, min(tokens, 1)
        noise = min(max(1, round(tokens * self.rate)), tokens - 1)
        if np.isinf(self.mean):
            return noise, 1
        return noise, min(max(1, round(noise / self.mean)), noise, tokens - noise)


UL2 = (
    Denoiser(0.15, 3, "R"),
    Denoiser(0.15, 8, "R"),
    Denoiser(0.25, np.inf, "S"),
    Denoiser(0.5, 3, "X"),
    Denoiser(0.5, 8, "X"),
    Denoiser(0.15, 64, "X"),
    Denoiser(0.5, 64, "X"),
)


def denoisers(config: SpanConfig) -> tuple[Denoiser, ...]:
    """Those that a config asks for."""
    return UL2 if config.mixture else (Denoiser(config.rate, config.mean),)


@dataclass(frozen=True)
class SpanFrame:
    """Ids that span corruption needs."""

    sentinels: np.ndarray
    end: int
    pad: int
    start: int
    """What the decoder starts from."""
    kinds: dict[str, int]
    """The tokens of UL2's kinds; empty without the mixture."""


class SpanNoise:
    """Rows {"ids", "segments"} (width,) and {"decoder_ids", "decoder_segments", "targets"} (written,)."""

    def __init__(self, width: int, frame: SpanFrame, config: SpanConfig) -> None:
        self.frame, self.denoisers = frame, denoisers(config)
        self.widths = (width, written_width(width, config))

    def costs(self, most: int) -> list[list[int]]:
        """Room that is read, and that is written: the most that any of the denoisers needs."""
        return _costs(self.denoisers, most)

    def row(self, fragments: Sequence[Fragment], random: np.random.Generator) -> Row:
        """One row: each fragment corrupted, what is read and what is written at the same number."""
        read, written = [], []
        for fragment in fragments:
            denoiser = self.denoisers[int(random.integers(len(self.denoisers)))]
            one, other = self._corrupt(fragment.ids, denoiser, random)
            read.append(one)
            written.append(other)
        return pair_row(read, written, self.widths, pad=self.frame.pad, start=self.frame.start)

    def _corrupt(
        self, ids: np.ndarray, denoiser: Denoiser, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        noise, spans = denoiser.counts(len(ids))
        taken = parts(noise, spans, random)
        kept = parts(len(ids) - noise, spans, random) if len(ids) > noise else np.zeros(spans, np.int64)
        borders = np.concatenate([[0], np.cumsum(np.stack([kept, taken], 1).ravel())])
        end, read, written = np.array([self.frame.end]), [], []
        if denoiser.kind:
            read.append(np.array([self.frame.kinds[denoiser.kind]]))
        for span, sentinel in enumerate(self.frame.sentinels[:spans, None]):
            left, middle, right = borders[2 * span : 2 * span + 3]
            read += [ids[left:middle], sentinel]
            written += [sentinel, ids[middle:right]]
        return np.concatenate([*read, end]), np.concatenate([*written, end])


def written_width(width: int, config: SpanConfig) -> int:
    """Room for what is written beside `width` tokens to be read: that of one whole text, and a tenth for several."""
    read, written = _costs(denoisers(config), 4 * width)
    longest = max(n for n, cost in enumerate(read) if cost <= width)
    return -(-(written[longest] * 11 // 10 + 2) // 8) * 8


def sentinels_needed(width: int, config: SpanConfig) -> int:
    """Spans of the longest text that can stand in a row of `width` tokens."""
    read, _ = _costs(denoisers(config), 4 * width)
    longest = max(n for n, cost in enumerate(read) if cost <= width)
    return max(denoiser.counts(n)[1] for denoiser in denoisers(config) for n in range(1, longest + 1))


def _costs(ways: Sequence[Denoiser], most: int) -> list[list[int]]:
    read, written = [0], [0]
    for n in range(1, most + 1):
        counts = [(way.counts(n), bool(way.kind)) for way in ways]
        read.append(max(read[-1], *(n - noise + spans + 1 + kind for (noise, spans), kind in counts)))
        written.append(max(written[-1], *(noise + spans + 1 for (noise, spans), _ in counts)))
    return [read, written]


def parts(total: int, count: int, random: np.random.Generator) -> np.ndarray:
    """`total` divided into `count` parts of at least one, each division equally likely: (count,)."""
    if count < 1:
        return np.zeros(0, np.int64)
    borders = np.sort(random.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], borders, [total]])).astype(np.int64)


def pair_row(
    read: Sequence[np.ndarray], written: Sequence[np.ndarray], widths: Sequence[int], *, pad: int, start: int
) -> Row:
    """A row of an encoder-decoder: text n is read, and written by the decoder from `start` on, as segment n."""
    ids, segments = np.full(widths[0], pad, np.int64), np.zeros(widths[0], np.int32)
    decoder, numbers = np.full(widths[1], pad, np.int64), np.zeros(widths[1], np.int32)
    targets = np.full(widths[1], pad, np.int64)
    at = to = 0
    for number, (one, other) in enumerate(zip(read, written, strict=True), 1):
        ids[at : at + len(one)], segments[at : at + len(one)] = one, number
        targets[to : to + len(other)], numbers[to : to + len(other)] = other, number
        decoder[to], decoder[to + 1 : to + len(other)] = start, other[:-1]
        at, to = at + len(one), to + len(other)
    return {"ids": ids, "segments": segments, "decoder_ids": decoder, "decoder_segments": numbers, "targets": targets}
