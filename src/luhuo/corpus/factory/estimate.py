"""What an annotate stage will take, from a little of each of its sources measured on this machine."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.core.device import cpu_threads
from luhuo.corpus.factory import plan
from luhuo.corpus.factory.annotate import measured_unit
from luhuo.files.references import resolve
from luhuo.files.remote import is_data_set

if TYPE_CHECKING:
    from luhuo.corpus.factory.stages import AnnotateStage


@dataclass(frozen=True)
class Share:
    """Time of a stage over that of annotate, and bytes it writes over those of the text."""

    time: float
    disk: float


SAMPLE_BYTES = 1_000_000
"""Text of each source that is measured."""
PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".parquet", ".epub", ".docx")
UNPACKED = 3.0
"""Text of a packed file over its size, where the file was not read to its end."""
SHARES = {"annotate": Share(1.0, 0.3), "deduplicate": Share(0.3, 0.01), "filter": Share(0.35, 0.8)}
"""Of each stage; measured with bench/corpus_speed.py."""
WORKER_BYTES = 200_000_000
"""Memory of a worker."""


@dataclass(frozen=True)
class Estimate:
    """Bytes, and seconds with the workers of the stage."""

    files: int
    """Bytes of the sources' files."""
    text: float
    seconds: float
    """Of annotate."""
    memory: float


def estimate(stage: AnnotateStage) -> Estimate:
    """Measure the middle unit of each source, and reckon from it. Raises `LuhuoError` if a source is not there."""
    workers = 1 if stage.executor == "inline" else stage.workers or cpu_threads()
    files, text, seconds = 0, 0.0, 0.0
    for number, source in enumerate(stage.sources):
        found = None if is_data_set(source.path) else resolve(source.path)
        units = plan.plan([source], [found], 2 * SAMPLE_BYTES)
        unit = units[len(units) // 2]
        unit.payload["source"] = number
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            told, whole = measured_unit(stage.model_dump(mode="json"), unit, Path(folder), SAMPLE_BYTES)
            took = time.process_time() - start
        size = sum(one.bytes for one in units)
        packed = any(str(part[0]).endswith(PACKED) for part in unit.payload["parts"])
        ratio = told["bytes"] / unit.bytes if whole and unit.bytes else UNPACKED if packed else 1.0
        files += size
        text += size * ratio
        seconds += size * ratio * took / max(told["bytes"], 1)
    return Estimate(files, text, seconds / workers, WORKER_BYTES * workers)
