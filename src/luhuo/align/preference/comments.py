"""What a run of preference optimisation says in plain words: about its data before, about its curves after."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from luhuo.align.preference.rendering import Prepared
from luhuo.core.artifact import Workspace
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.dialogue.preview import preview
from luhuo.tokenizer.tokenizer import Tokenizer

SHARE = 0.1
"""Of a run's lines of metrics, at its beginning and at its end, that are compared."""
FALLEN = 0.01
"""A fall of the chosen answers' log-probability by more than this share of it is spoken of."""


def announce(prepared: Prepared, tokenizer: Tokenizer) -> None:
    """Tell what was found: layouts, counts, lengths, and one unit with what is learned marked."""
    for name, layout in prepared.layouts.items():
        say(tr(f"{Path(name).name}: layout “{layout}”", f"{Path(name).name}：格式“{layout}”"))
    say(", ".join(f"{name} {count:,}" for name, count in sorted(prepared.counts.items()) if count))
    lengths = prepared.units.store.lengths()
    median, longest = int(np.median(lengths)), int(lengths.max())
    say(
        tr(
            f"{prepared.tokens:,} tokens; a sequence has {median} (median) to {longest} (longest)",
            f"共 {prepared.tokens:,} 词元；单个序列中位数 {median}，最长 {longest}",
        )
    )
    for rendered in prepared.first:
        say(preview(rendered, tokenizer, colour=sys.stderr.isatty()))


def look_back(out: Workspace) -> None:
    """Say what the curves of this run mean, where they are often asked about."""
    for line in findings(out.metrics.read()):
        say(line)


def findings(rows: list[dict[str, float]]) -> list[str]:
    """What to say about the lines of metrics of a run."""
    rows = [row for row in rows if "log_probs.chosen" in row]
    if len(rows) < 4:
        return []
    count = max(1, round(SHARE * len(rows)))

    def change(name: str) -> tuple[float, float]:
        values = [row[name] for row in rows]
        return float(np.mean(values[:count])), float(np.mean(values[-count:]))

    found = []
    before, after = change("log_probs.chosen")
    lost_before, lost_after = change("log_probs.rejected")
    if after < before - FALLEN * abs(before):
        both = f"{before:.1f} → {after:.1f}; {lost_before:.1f} → {lost_after:.1f}"
        if lost_after - after < lost_before - before:
            found.append(
                tr(
                    f"The chosen answers became less probable, too ({both}). This is usual: the loss asks for a "
                    "larger difference only, and the rejected ones fell further. If the model writes worse for it, "
                    "add sft_weight, raise beta, or take fewer steps.",
                    f"所选回答的概率也下降了（{both}）。这很常见：损失只要求拉大差距，而被拒回答下降更多。"
                    "若模型因此写得更差，可加 sft_weight、增大 beta 或减少步数。",
                )
            )
        else:
            found.append(
                tr(
                    f"The chosen answers fell further than the rejected ones ({both}): the labels were not learned. "
                    "Look at the data, and at the learning rate.",
                    f"所选回答比被拒回答下降更多（{both}）：没有学到标签。请检查数据与学习率。",
                )
            )
    accuracy = change("accuracy")[1]
    if accuracy > 0.995:
        found.append(
            tr(
                f"The pairs of training are told apart nearly always ({accuracy:.1%}): more steps would only push "
                "probabilities around. Look at valid.accuracy.",
                f"训练数据中的偏好对几乎总能区分（{accuracy:.1%}）：更多步数只会徒增概率偏移。请看 valid.accuracy。",
            )
        )
    return found
