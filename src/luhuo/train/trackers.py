"""Experiment trackers: TensorBoard, Weights & Biases, SwanLab and MLflow, each through its own library.

A tracker is somebody else's program. It is imported when it is asked for, obeys its own environment variables (such as
WANDB_MODE=offline, SWANLAB_MODE, MLFLOW_TRACKING_URI), writes below `watch/` unless told otherwise, and when it fails
it is dropped with one message: training goes on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.digest import WATCH
from luhuo.core.errors import missing_extra
from luhuo.core.language import tr
from luhuo.core.progress import say

Name = Literal["tensorboard", "wandb", "swanlab", "mlflow"]

PROJECT = "luhuo"
"""Where runs are filed, unless the tracker's own variable names another project."""


class Tracker(Protocol):
    """One tracker that has been started. `id` is what it continues by, "" if it needs nothing."""

    id: str

    def log(self, step: int, values: dict[str, float]) -> None:
        """Numbers of a step."""
        ...

    def text(self, step: int, text: str) -> None:
        """What the model wrote at a step."""
        ...

    def close(self, failed: bool) -> None:
        """The run is over."""
        ...


class TensorBoard:
    """Event files in `watch/tensorboard`; TensorBoard hides what a resumed run makes again."""

    def __init__(self, folder: Path, name: str, origin: dict[str, Any], step: int, known: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.id = ""
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        if not step:
            told = json.dumps(origin, ensure_ascii=False, indent=2, default=str)
            self.writer.add_text("origin", f"```json\n{told}\n```", 0)

    def log(self, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def text(self, step: int, text: str) -> None:
        self.writer.add_text("samples", text, step)

    def close(self, failed: bool) -> None:
        self.writer.close()


class WandB:
    """Weights & Biases; an offline run is sent later by `wandb sync watch/wandb/offline-run-…`."""

    def __init__(self, folder: Path, name: str, origin: dict[str, Any], step: int, known: str) -> None:
        wandb = import_module("wandb")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", name),
            id=known or uuid.uuid4().hex[:8],
            resume="allow",
            dir=str(folder),
            config=origin,
        )
        self.id = self.run.id
        self._html = wandb.Html

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def text(self, step: int, text: str) -> None:
        escaped = text.replace("&", "&amp;").replace("<", "&lt;")  # a model wrote it
        self.run.log({"samples": self._html(f"<pre>{escaped}</pre>")}, step=step)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class SwanLab:
    """SwanLab; SWANLAB_MODE=local or offline keeps everything in `watch/swanlab` (sent later by `swanlab sync`)."""

    def __init__(self, folder: Path, name: str, origin: dict[str, Any], step: int, known: str) -> None:
        swanlab = import_module("swanlab")
        mode = os.environ.get("SWANLAB_MODE")
        # Only the cloud can continue a run; the local modes begin another beside it.
        again: dict[str, Any] = {"id": known, "resume": "allow"} if known and mode in (None, "online", "cloud") else {}
        self.run = swanlab.init(
            project=os.environ.get("SWANLAB_PROJ_NAME", PROJECT),
            name=os.environ.get("SWANLAB_EXP_NAME", name),
            config=origin,
            log_dir=str(folder / "swanlab"),
            mode=mode,
            **again,
        )
        self.id = str(getattr(self.run, "id", "") or "")
        self._text, self._finish = swanlab.Text, swanlab.finish

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def text(self, step: int, text: str) -> None:
        self.run.log({"samples": self._text(text)}, step=step)

    def close(self, failed: bool) -> None:
        self._finish(state="crashed", error="stopped") if failed else self._finish()


class MLflow:
    """MLflow at MLFLOW_TRACKING_URI; without it a database file in `watch/mlflow`."""

    def __init__(self, folder: Path, name: str, origin: dict[str, Any], step: int, known: str) -> None:
        place = folder / "mlflow"
        place.mkdir(parents=True, exist_ok=True)
        self._metric = import_module("mlflow.entities").Metric
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place.absolute()}/mlflow.db"
        self.client = import_module("mlflow.tracking").MlflowClient(uri)
        if known:
            self.id = known
            self.client.update_run(known, status="RUNNING")
            return
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self.client.get_experiment_by_name(project)
        artifacts = None if "MLFLOW_TRACKING_URI" in os.environ else (place / "files").absolute().as_uri()
        experiment = found.experiment_id if found else self.client.create_experiment(project, artifacts)
        self.id = self.client.create_run(experiment, run_name=name).info.run_id
        for key, value in origin.get("config", {}).items():
            self.client.log_param(self.id, key, value)
        self.client.log_dict(self.id, origin, "origin.json")

    def log(self, step: int, values: dict[str, float]) -> None:
        now = int(1000 * time.time())
        self.client.log_batch(self.id, [self._metric(key, value, now, step) for key, value in values.items()])

    def text(self, step: int, text: str) -> None:
        self.client.log_text(self.id, text, f"samples/step-{step:09d}.txt")

    def close(self, failed: bool) -> None:
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


CLASSES: dict[str, Callable[[Path, str, dict[str, Any], int, str], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "swanlab": SwanLab,
    "mlflow": MLflow,
}


class Trackers:
    """All trackers of a run. Raises `LuhuoError` at once for one that is not installed."""

    def __init__(self, names: Sequence[Name], out: Workspace, title: str) -> None:
        for name in names:
            if importlib.util.find_spec(name) is None:
                raise missing_extra(name, name)
        self.names, self.out, self.title = list(dict.fromkeys(names)), out, title
        self.file = out.path / WATCH / "trackers.json"
        self._open: dict[str, Tracker] = {}

    def start(self, step: int) -> None:
        """Open all trackers behind `step`: those of an earlier start continue."""
        if not self.names:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
        artifact = self.out.path.name.removeprefix(".").removesuffix(".partial")
        for name in self.names:
            make = CLASSES[name]

            def opened(name: str = name, make: Callable[..., Tracker] = make) -> None:
                self._open[name] = make(self.file.parent, artifact, self.out.origin, step, known.get(name, ""))

            self._guarded(name, opened)
        write_json(self.file, known | {name: tracker.id for name, tracker in self._open.items()})

    def log(self, step: int, values: dict[str, float]) -> None:
        """Numbers of a step."""
        for name, tracker in list(self._open.items()):
            self._guarded(name, lambda tracker=tracker: tracker.log(step, values))

    def text(self, step: int, text: str) -> None:
        """What the model wrote at a step."""
        for name, tracker in list(self._open.items()):
            self._guarded(name, lambda tracker=tracker: tracker.text(step, text))

    def close(self, failed: bool) -> None:
        """The run is over, or goes on another day."""
        for name, tracker in list(self._open.items()):
            self._guarded(name, lambda tracker=tracker: tracker.close(failed))
        self._open.clear()

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        """Do it; a tracker that fails, in whatever way, is dropped with one message."""
        try:
            act()
        except Exception as error:
            self._open.pop(name, None)
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            say(
                tr(
                    f"{name} fails and is left out from here on: {told}",
                    f"{name} 出错，此后不再使用：{told}",
                )
            )
