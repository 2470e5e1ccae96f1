"""Where a model that is written to GGUF has its rounded matrices from: a quantised directory, or another GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luhuo.model.decoder import Decoder
from luhuo.model.gguf import GGUFWeights
from luhuo.model.gguf_config import read_metadata
from luhuo.model.gguf_kept import RoundedRows
from luhuo.model.gguf_links import gguf_links
from luhuo.model.load import read_values
from luhuo.model.packed import unpacked
from luhuo.model.quantised_files import RoundedWeights
from luhuo.model.weights import SafetensorsWeights, matched


@contextmanager
def rounded_rows(source: Path, model: Decoder) -> Iterator[RoundedRows | None]:
    """The rounded matrices of a directory or GGUF file that `model` was loaded from; None if it has none."""
    if source.is_file():
        weights = GGUFWeights(source)
        layout, _ = read_metadata(weights.metadata, weights.shapes, weights.vector, source)
        links = gguf_links(model.config, layout.how, [name for name, _ in model.named_parameters()])
        yield RoundedRows(weights.rounded, [(link, list(link.theirs)) for link in links], weights.shapes)
        return
    with SafetensorsWeights(source) as files:
        found = unpacked(files, read_values(source))
        if not isinstance(found, RoundedWeights):
            yield None
            return
        yield RoundedRows(found.rounded, matched(model, model.config, found), found.shapes())
