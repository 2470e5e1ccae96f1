"""Who answers, criticises or judges: a model here or behind an endpoint, with its instruction and examples."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from luhuo.align.distill.endpoint_config import EndpointConfig
from luhuo.core.config import Config, Input, field
from luhuo.core.language import tr


class ResponderConfig(Config):
    """A model with what it is told before each question."""

    model: Input | None = field(None, "A model on this machine.", "本机模型。")
    endpoint: EndpointConfig | None = field(
        None, "A model behind an OpenAI-compatible endpoint: {url, model}.", "OpenAI 兼容端点后的模型：{url, model}。"
    )
    name: str = field("", "What data that it wrote call it; empty: the model's name.", "数据中的名称；空：模型名。")
    system: str = field("", "Instruction before every conversation.", "每次对话前的指示。")
    shots: Input | None = field(
        None, "File of conversations shown as examples before each question.", "作为示例放在每个问题之前的对话文件。"
    )
    shot_count: int = field(0, "Examples shown, from the first; 0: all.", "所示示例数（从头取）；0 为全部。", ge=0)
    temperature: float = field(1.0, "Of sampling; 0: the likeliest answer.", "采样温度；0 为最可能的回答。", ge=0)
    max_tokens: int = field(512, "Most tokens of an answer.", "回答的最多词元数。", ge=1)
    at_once: int = field(64, "Answers of a local model written at the same time.", "本机模型同时生成的回答数。", ge=1)
    device: str = field("auto", "cpu, cuda, mps or auto.", "cpu、cuda、mps 或 auto。")
    dtype: str = field("auto", "fp32, bf16, int8, int4 or auto.", "fp32、bf16、int8、int4 或 auto。")

    @property
    def label(self) -> str:
        """Its name in data."""
        return self.name or (self.endpoint.model if self.endpoint else str(self.model))

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError(tr("give either model or endpoint", "model 与 endpoint 须给出且只给出一个"))
        return self
