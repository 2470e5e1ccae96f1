"""The stage `compression-measure`: what a compressed model lost against its original, and what it gained."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from luhuo.core.atomic import write_json
from luhuo.core.config import Input, field
from luhuo.core.digest import WATCH
from luhuo.core.stage import Stage
from luhuo.evaluation.asking import AskSettings

if TYPE_CHECKING:
    from luhuo.compress.measures.quality import Original
    from luhuo.core.artifact import Workspace
    from luhuo.model.decoder import Decoder

MEASURES = "measures.json"
SPEED = "speed.json"
"""In the folder of what is only looked at: times differ from run to run."""


class CompressionMeasureStage(Stage):
    """A compressed model beside its original, on the same held-out text: perplexity by language, divergence and
    agreement of the predicted distributions, benchmarks, size, peak memory, and speed in turn with the original."""

    model: Input = field(..., "Compressed model.", "压缩后的模型。")
    original: Input = field(..., "Model it was made from.", "压缩前的原模型。")
    text: Input = field(
        ...,
        "Held-out text: files, or a corpus or shards artifact, of which the test split is read.",
        "留出文本：文件，或语料、分片产物（读取其测试部分）。",
    )
    tokens: int = field(16_384, "Tokens scored, shared out among the languages.", "评分的词元数，各语言平分。", ge=512)
    length: int = field(512, "Most tokens of a passage.", "一段文本的最多词元数。", ge=16)
    tasks: list[str] = field([], "Benchmarks (luhuo tasks), or task files.", "评测任务（luhuo tasks），或任务文件。")
    data: dict[str, Input] = field({}, "Folder or reference with the data of each task.", "每个任务的数据目录或引用。")
    ask: AskSettings = field(AskSettings(), "How the tasks are asked.", "任务的提问方式。")
    turns: int = field(5, "Turns of measuring the speed; 0: none.", "测速的轮数；0 为不测。", ge=0, le=100)
    memory: bool = field(True, "Measure peak memory in processes of their own.", "在独立进程中测量峰值内存。")
    dtype: str = field(
        "auto", "Number format of the compressed model: auto keeps its bits.", "压缩模型的数值格式；auto 保持其位数。"
    )
    device: str = field("auto", "auto, cpu, cuda or mps.", "auto、cpu、cuda 或 mps。")

    def run(self, out: Workspace) -> None:
        """Write `measures.json`, with tasks `tasks.json` and their rows; speed and memory into `watch/speed.json`."""
        from luhuo.adapter.open import open_decoder
        from luhuo.compress.measures import memory, quality, size
        from luhuo.core.device import pick_device, use_threads
        from luhuo.files.references import resolve

        use_threads()
        device = str(pick_device(self.device))
        peaks = memory.peak_memory(self.model, self.dtype, device) if self.memory else None
        original = read_original(self.original, self.text, self.tokens, self.length, self.seed, device)
        model = open_decoder(self.model, self.dtype, device)
        start = time.perf_counter()
        quality_found = quality.compare(model, original)
        seconds = time.perf_counter() - start
        found = quality.figures(quality_found, original, self.seed)
        everything, weights = size.disk_bytes(resolve(self.model).path)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        found["size"] = {"directory": everything, "weights": weights, "read": size.read_per_token(model)}
        found["computed_in"] = str(model.dtype).removeprefix("torch.")
        found["floats"] = parameters
        out.results |= flat(found)
        if self.tasks:
            out.results |= self._tasks(model, out)
        write_json(out.path / MEASURES, found)
        timed: dict[str, Any] = {"memory": peaks, "read_tokens": found["all"]["tokens"], "read_seconds": seconds}
        timed |= {"speed": self._speed(model, device)} if self.turns else {}
        write_json(out.path / WATCH / SPEED, timed)
        out.results |= _flat_speed(timed)

    def _tasks(self, model: Decoder, out: Workspace) -> dict[str, Any]:
        from luhuo.evaluation.benchmark import benchmark, flat
        from luhuo.evaluation.runner import Subject, model_digest
        from luhuo.inference.engine import Engine

        subject = Subject(Engine(model), model_digest(self.model, model))
        return flat(
            benchmark(subject, self.tasks, self.data, self.ask, seed=self.seed, folder=out.path, model=self.model)
        )

    def _speed(self, model: Decoder, device: str) -> dict[str, Any]:
        """In turn with the original as it is loaded without further words; alone where the model is the original."""
        from luhuo.adapter.open import open_decoder
        from luhuo.compress.measures.speed import speeds

        models = {"model": model}
        if self.model != self.original:
            models = {"original": open_decoder(self.original, device=device), "model": model}
        return asdict(speeds(models, turns=self.turns))


@functools.lru_cache(maxsize=1)
def read_original(reference: str, text: str, tokens: int, length: int, seed: int, device: str) -> Original:
    """What the original says of the held-out text. The last one is kept: a report measures many models against it."""
    from luhuo.adapter.open import open_decoder
    from luhuo.compress.measures import passages, quality

    model = open_decoder(reference, "fp32", device)
    length = min(length, model.config.max_positions - 1)
    return quality.read_original(
        model, passages.select(text, quality.tokenizer_of(model), tokens=tokens, length=length, seed=seed)
    )


def flat(found: dict[str, Any]) -> dict[str, Any]:
    """Results with dotted keys: loss, kl, agreement with their intervals, perplexity and loss by language, bytes."""
    results: dict[str, Any] = {}
    for name in ("loss", "kl", "agreement"):
        for end, value in (found["all"][name] or {}).items():
            results[name if end == "mean" else f"{name}.{end}"] = value
    for lang, figures in found["languages"].items():
        results[f"perplexity.{lang}"] = figures["perplexity"]
        if figures["loss"] is not None:
            results[f"loss.{lang}"] = figures["loss"]["mean"]
    return results | {"bytes": found["size"]["directory"], "read": found["size"]["read"], "drawn": found["drawn"]}


def _flat_speed(timed: dict[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    if timed["memory"]:
        results["memory"] = timed["memory"]["writing"]
    if "speed" in timed:
        own = timed["speed"]["models"]["model"]
        results |= {"decode": own["decode"], "prefill": own["prefill"]}
    return results
