"""Copies of a model in processes of their own, which share a list of prompts: data-parallel generation.

What goes between the processes is JSON.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from typing import Any, Self

from luhuo.core.device import use_threads
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.inference.request import Completion
from luhuo.inference.sampling import Sampling

PORTION = 128
"""Prompts that a copy gets at a time."""


class Replicas:
    """One copy of the model `reference` on each of `devices`; `options` are those of `Engine`.

    On CPUs each copy computes with `threads` threads (default: its share of the cores). Raises `LuhuoError` if the
    model cannot be loaded. To be closed, or used in a `with` statement.
    """

    def __init__(
        self,
        reference: str,
        devices: Sequence[str] = ("cpu", "cpu"),
        *,
        dtype: str = "auto",
        threads: int = 1,
        **options: Any,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for device in devices:
            ours, theirs = context.Pipe()
            settings = json.dumps([reference, dtype, device, threads, options])
            process = context.Process(target=_serve, args=(theirs, settings), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            for number in range(len(self._pipes)):
                self._receive(number)
        except BaseException:
            self.close()
            raise

    def generate(
        self, prompts: Sequence[str | Sequence[int]], sampling: Sampling | Sequence[Sampling] | None = None
    ) -> list[Completion]:
        """One completion a prompt, in order, as `Engine.generate` gives them.

        Raises `LuhuoError` for what an engine refuses, `RunFailed` when a copy dies.
        """
        if sampling is None or isinstance(sampling, Sampling):
            sampling = [sampling or Sampling()] * len(prompts)
        tasks = [[prompt, wanted.model_dump()] for prompt, wanted in zip(prompts, sampling, strict=True)]
        size = max(1, min(PORTION, -(-len(tasks) // len(self._pipes))))
        left: SimpleQueue[int] = SimpleQueue()
        for start in range(0, len(tasks), size):
            left.put(start)
        found: list[Completion | None] = [None] * len(tasks)

        def work(number: int) -> None:
            while True:
                try:
                    start = left.get_nowait()
                except Empty:
                    return
                self._send(number, tasks[start : start + size])
                for place, answers in enumerate(self._receive(number), start):
                    choices = [_completion(answer) for answer in answers]
                    choices[0].choices = choices
                    found[place] = choices[0]

        with ThreadPoolExecutor(len(self._pipes)) as pool:
            for done in [pool.submit(work, number) for number in range(len(self._pipes))]:
                done.result()
        return [completion for completion in found if completion is not None]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, number: int, message: Any) -> None:
        try:
            self._pipes[number].send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise self._dead(number) from error

    def _receive(self, number: int) -> Any:
        try:
            kind, value = json.loads(self._pipes[number].recv_bytes())
        except (EOFError, OSError) as error:
            raise self._dead(number) from error
        if kind == "refused":
            raise LuhuoError(value)
        return value

    def _dead(self, number: int) -> RunFailed:
        self._processes[number].join(5)
        return RunFailed(
            tr(f"Copy {number} of the model has died.", f"模型的第 {number} 个副本已退出。"),
            found=tr(f"exit code {self._processes[number].exitcode}", f"退出码 {self._processes[number].exitcode}"),
        )


def _serve(pipe: Connection, settings: str) -> None:
    """The life of a copy: load the model, answer portions of prompts until the pipe is closed."""
    from luhuo.adapter.open import open_model
    from luhuo.inference.engine import Engine

    reference, dtype, device, threads, options = json.loads(settings)
    use_threads(threads)
    try:
        engine = Engine(open_model(reference, dtype, device), **options)  # type: ignore[arg-type]
        _answer(pipe, "ready", None)
        while True:
            tasks = json.loads(pipe.recv_bytes())
            wanted = [Sampling.parse(sampling) for _, sampling in tasks]
            try:
                outs = engine.generate([prompt for prompt, _ in tasks], wanted)
            except LuhuoError as error:
                _answer(pipe, "refused", str(error))
            else:
                _answer(pipe, "done", [[_plain(choice) for choice in out.choices or [out]] for out in outs])
    except LuhuoError as error:
        _answer(pipe, "refused", str(error))
    except (EOFError, BrokenPipeError):
        return  # nobody asks any more


def _answer(pipe: Connection, kind: str, value: Any) -> None:
    pipe.send_bytes(json.dumps([kind, value]).encode())


def _plain(completion: Completion) -> dict[str, Any]:
    """A completion without the list of its siblings."""
    completion.choices = []
    return asdict(completion)


def _completion(values: dict[str, Any]) -> Completion:
    """JSON knows no numbers as keys and no tuples."""
    if values["top_logprobs"] is not None:
        values["top_logprobs"] = [_by_token(best) for best in values["top_logprobs"]]
    if values["prompt_logprobs"] is not None:
        values["prompt_logprobs"] = [one and (one[0], _by_token(one[1])) for one in values["prompt_logprobs"]]
    return Completion(**values)


def _by_token(best: dict[str, float]) -> dict[int, float]:
    return {int(token): score for token, score in best.items()}
