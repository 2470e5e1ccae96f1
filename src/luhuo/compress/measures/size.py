"""How large a model is: on the disk, and what a written token reads."""

from __future__ import annotations

from pathlib import Path

from luhuo.adapter.files import is_adapter
from luhuo.adapter.open import base_of
from luhuo.core.digest import payload_files
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder
from luhuo.model.quantised import QuantisedEmbedding

WEIGHTS = (".safetensors", ".gguf")


def disk_bytes(path: str | Path) -> tuple[int, int]:
    """Bytes of all files of a model directory (or of a file), and of its weights; an adapter with its base."""
    root = Path(path)
    below = disk_bytes(resolve(base_of(root)).path) if is_adapter(root) else (0, 0)
    files = [root] if root.is_file() else list(payload_files(root))
    sizes = {file: file.stat().st_size for file in files}
    weights = sum(size for file, size in sizes.items() if file.suffix in WEIGHTS)
    return below[0] + sum(sizes.values()), below[1] + weights


def read_per_token(model: Decoder) -> int:
    """Bytes of weights that writing one token reads: all, but of an embedding that is no output matrix only a row.

    Of experts all are counted: which ones a token takes changes from token to token.
    """
    total = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if model.unembedding is None:
        return total
    table = model.embedding
    return total - (table.packed.nbytes if isinstance(table, QuantisedEmbedding) else table.nbytes)
