"""Work units as tasks of a Ray cluster. Every machine must see the folder (a shared file system)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.corpus.factory.watch import Died, Watch, place_of, read_place

if TYPE_CHECKING:
    from luhuo.corpus.factory.executors import Attempt, Job, Outcome, Unit

POLL_S = 1.0


def remote(job: Job, folder: Path, record_s: float) -> Attempt:
    """One attempt at a unit as a Ray task; joins the cluster that RAY_ADDRESS names, else starts one here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody outside
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise missing_extra("ray", "ray") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    task: Any = ray.remote(num_cpus=1, max_retries=0)(_do)

    def attempt(unit: Unit, careful: bool, skips: frozenset[int]) -> Outcome:
        place_of(folder, unit.name).unlink(missing_ok=True)
        waiting = task.remote(job, unit, folder, careful, skips)
        try:
            while not ray.wait([waiting], timeout=POLL_S)[0]:
                record, began = read_place(folder, unit.name)
                if record >= 0 and time.time() - began > record_s:
                    ray.cancel(waiting, force=True)
                    raise Died(record, f"a record took more than {record_s:g} s")
            return ray.get(waiting)
        except (LuhuoError, OSError):
            raise
        except ray.exceptions.RayError as error:
            raise Died(read_place(folder, unit.name)[0], type(error).__name__) from error

    return attempt


def _do(job: Job, unit: Unit, folder: Path, careful: bool, skips: frozenset[int]) -> Outcome:
    return job.function()(job.settings, unit, folder, Watch(folder, unit.name, careful, skips))
