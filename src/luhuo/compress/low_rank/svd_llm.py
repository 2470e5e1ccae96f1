"""SVD-LLM (Wang et al. 2024): truncation-aware whitening.

With inputs X and the Cholesky factor L of X Xᵀ, the outputs' error ‖(W - Ŵ) X‖ is ‖(W - Ŵ) L‖, so that each singular
value of W L that is dropped costs exactly its square (section 3.2, theorem 3.2 there).
"""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

DAMPING = 1e-9
"""Share of the mean diagonal that is added for the factor to exist; raised where it does not."""
MOST_DAMPING = 1e-2


def root_of_moment(moment: Tensor) -> tuple[Tensor, float]:
    """The Cholesky factor (columns, columns) float64 of a second moment, and the share of its mean diagonal that had
    to be added. Raises `LuhuoError` if the moment is not finite or all zero."""
    wide = moment.double()
    mean = wide.diagonal().mean()
    if not bool(wide.isfinite().all()) or not mean > 0:
        raise LuhuoError(
            tr("The inputs of a matrix are not finite, or all zero.", "某矩阵的输入非有限值或全为零。"),
            found=float(mean),
            fix=tr("Use other calibration text.", "请更换校准文本。"),
        )
    damping = DAMPING
    while damping <= MOST_DAMPING:
        damped = wide + damping * mean * torch.eye(len(wide), dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            return factor, damping
        damping *= 10
    raise LuhuoError(
        tr("A second moment has no Cholesky factor.", "某二阶矩无法 Cholesky 分解。"),
        expected=tr(f"one with damping ≤ {MOST_DAMPING:g}", f"阻尼 ≤ {MOST_DAMPING:g} 时可分解"),
    )
