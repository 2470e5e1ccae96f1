"""The stages of this room."""

from __future__ import annotations

from luhuo.core.artifact import Workspace
from luhuo.core.config import Input, field
from luhuo.core.stage import Stage


class ProxyTuningStage(Stage):
    """Proxy-tuning (Liu et al. 2024): a large model that writes as if it had been tuned as a small one was. The result
    is opened like any model; it has no weights of its own and names the three it is made of."""

    model: Input = field(..., "The large model.", "大模型。")
    tuned: Input = field(..., "The small model after its tuning.", "调优之后的小模型。")
    base: Input = field(..., "The small model before its tuning.", "调优之前的小模型。")
    alpha: float = field(
        1.0,
        "Factor on the difference: 0 is the large model alone, more than 1 goes beyond the tuning.",
        "差值的系数：0 即大模型本身，大于 1 则强化调优。",
        ge=-10,
        le=10,
    )

    def run(self, out: Workspace) -> None:
        """Check that the three fit together, and write what names them."""
        from luhuo.adapter.open import open_decoder
        from luhuo.adapter.proxy_files import NAMES, write_proxy

        write_proxy(out.path, {name: getattr(self, name) for name in NAMES}, self.alpha)
        model = open_decoder(out.path, device="cpu")
        out.results["parameters"] = sum(parameter.numel() for parameter in model.parameters())

    def disk_bytes(self) -> int:
        """One small file."""
        return 4096
