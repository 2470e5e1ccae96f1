"""Which matrices of a model are multiplied in 8-bit floats."""

from __future__ import annotations

from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.kernels import fp8
from luhuo.model.base import LanguageModel
from luhuo.model.block import Block
from luhuo.model.layers import Linear
from luhuo.model.stack import StackBlock


def multiply_in_fp8(model: LanguageModel) -> int:
    """Let the matrices of the blocks be multiplied in 8 bits from now on, in training; returns how many.

    Embeddings and the head stay as they are: few parameters of the model, and most of the loss's precision. Routers
    and routed experts too: the former choose, the latter are multiplied in groups. So do matrices whose sizes are no
    multiples of `fp8.MULTIPLE`, and passes with such a number of tokens.
    """
    found = {
        module
        for block in model.modules()
        if isinstance(block, Block | StackBlock)
        for module in block.modules()
        if isinstance(module, Linear) and not any(size % fp8.MULTIPLE for size in module.weight.shape)
    }
    for module in found:
        module.fp8 = True
    if not fp8.in_hardware(model.device):
        say(
            tr(
                "This device does not multiply 8-bit floats: they are emulated, which is slower than without fp8.",
                "此设备不支持 8 位浮点乘法：改为模拟，比不用 fp8 更慢。",
            )
        )
    return len(found)
