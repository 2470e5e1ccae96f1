"""Run one distributed stage in the workers of Ray Train; a failed or preempted worker starts the run again.

python jobs/ray_train.py --workers 8 --gpu --out /shared/runs/base pretrain base.yaml
`base.yaml` holds the stage's fields. `--out` must be a folder that all machines see: checkpoints are written there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def work(settings: dict[str, Any]) -> None:
    """What every worker does; Ray has joined them before."""
    import yaml

    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    values = yaml.safe_load(Path(settings["config"]).read_text(encoding="utf-8"))
    produce(settings["stage"], configured(settings["stage"], values, "ray"), Path(settings["out"]))


def main() -> None:
    """Command line."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--restarts", type=int, default=10)
    given = parser.parse_args()
    settings = {"stage": given.stage, "config": str(given.config.absolute()), "out": str(given.out.absolute())}
    TorchTrainer(
        work,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=given.restarts)),
    ).fit()


if __name__ == "__main__":
    main()
