"""What each choice contributes: Luhuo's default recipe with one thing changed, at equal arithmetic.

    python bench/time_to_loss.py corpus                   once: the same corpus and held-out rows
    python bench/ablation.py --tokens 1000000             all runs (those finished before are not made again), a table
    python bench/ablation.py --only "no QK-norm,AdamW"    some of them

Every run does as much arithmetic (model FLOPs) as the default with `--tokens`: a variant that does more for a token
gets fewer of them. The loss is the one of bench/time_to_loss.py, with the same seed and rows. Tokens a second of
processor time stand beside it, since a step of two variants may take unequally long for the same arithmetic.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from real_text import LENGTH
from time_to_loss import record, shape

from luhuo.core.device import use_threads
from luhuo.model.count import flops_per_token, parameters

LATENT = {
    "family": "deepseek_v3",
    "heads": 6,
    "kv_heads": 6,
    "head_dim": 48,
    "qk_norm": "none",
    "mla": {"q_rank": 96, "kv_rank": 64, "nope_dim": 32, "rope_dim": 16, "value_dim": 32},
}
EXPERTS = {
    "family": "glm4_moe",
    "moe": {
        "experts": 12,
        "active": 3,
        "intermediate_size": 128,
        "shared_size": 128,
        "score": "sigmoid",
        "correction": True,
        "dense_layers": (0,),
        "balance": 1e-4,
        "balance_over": "sequence",
    },
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "AdamW": {"trainer": {"optimiser": "adamw"}},
    "AdamW, half the rate": {"trainer": {"optimiser": "adamw", "learning_rate": 2e-3}},
    "AdamW, a quarter of the rate": {"trainer": {"optimiser": "adamw", "learning_rate": 1e-3}},
    "no copying circuit, small embeddings": {"start": {"circuit": False}},
    "no QK-norm": {"model": {"qk_norm": "none"}},
    "no document masks": {"masks": False},
    "batch of 4,096": {"batch": 4096},
    "batch of 2,048": {"batch": 2048},
    "batch of 1,024": {"batch": 1024},
    "batch growing over the first fifth": {"trainer": {"batch_warmup": 0.2}},
    "cosine to a tenth": {"trainer": {"schedule": "cosine", "floor": 0.1}},
    "falling from the start": {"trainer": {"schedule": "linear"}},
    "falling in the last fifth": {"trainer": {"decay": 0.2}},
    "no weight decay": {"trainer": {"weight_decay": 0.0}},
    "embeddings at the matrices' rate": {"trainer": {"embedding_rate": 1.0}},
    "half the rate": {"trainer": {"learning_rate": 2e-3}},
    "twice the rate": {"trainer": {"learning_rate": 8e-3}},
    "averaged weights": {"trainer": {"ema": 0.98}},
    "two tokens ahead (MTP)": {"model": {"mtp_layers": 1}},
    "experts (MoE)": {"model": EXPERTS},
    "latent attention (MLA)": {"model": LATENT},
    "MLA, experts and MTP": {"model": {**EXPERTS, **LATENT, "mtp_layers": 1}},
}
"""Without the norm of queries and keys, or with latent attention, there is no copying circuit either."""


def tokens_for(settings: dict[str, Any], tokens: int) -> int:
    """Tokens that take as much arithmetic as `tokens` of the default."""
    return round(
        tokens * flops_per_token(shape({}), LENGTH) / flops_per_token(shape(settings.get("model", {})), LENGTH)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "time_to_loss")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="names, separated by commas where a name has none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    use_threads(options.threads)
    wanted = [name for name in VARIANTS if not options.only or name in options.only or name == "default"]
    lines, usual = [], 0.0
    for name in wanted:
        settings = VARIANTS[name]
        tokens = tokens_for(settings, options.tokens)
        runs = [record(options.out, "luhuo", settings, tokens, seed, points=10) for seed in range(options.seeds)]
        loss = statistics.median(run["loss"] for run in runs)
        usual = loss if name == "default" else usual
        rate = statistics.median(run["tokens"] / run["cpu_s"] for run in runs)
        size = sum(parameters(shape(settings.get("model", {}))).values())
        lines.append(f"| {name} | {tokens:,} | {size / 1e6:.2f}M | {loss:.3f} | {loss - usual:+.3f} | {rate:,.0f} |")
    print("| variant | tokens | parameters | held-out loss | change | tokens/s of processor time |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
