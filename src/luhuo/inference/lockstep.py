"""One engine in several processes, each with a part of one model (tensor parallelism; Shoeybi et al. 2019, section 3).

All processes run the same schedule over caches of their own heads. Process 0 has the requests and chooses the tokens:
before each step it tells the others who came and who left, and in the step which tokens were chosen and who has ended.
A schedule depends on nothing else, so the others need neither prompts' text nor sampling. What is told is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling

if TYPE_CHECKING:
    from luhuo.inference.scheduler import Scheduler

FIRST = 4096
"""Bytes of a message that go with its length; the rest, if there is one, follows."""
SIZE = 8
"""Bytes of the length."""
PATIENCE = timedelta(days=3650)
"""A server may have nothing to do for long, and nobody is told anything meanwhile."""


class Lockstep:
    """This process among those of `torch.distributed`. All of them make theirs together.

    Two kinds of threads never use it at once: the engine's lock is held wherever something is told.
    """

    def __init__(self) -> None:
        group = distributed.new_group(backend="gloo", timeout=PATIENCE)
        assert not isinstance(group, int), "every process is a member"
        self._group = group
        self.leads = distributed.get_rank() == 0
        """Whether this process has the requests."""
        self.broken = False
        """Whether a step failed: then nobody knows where the others stand, and nothing goes on."""
        self._noted: list[list[Any]] = []

    def share(self, value: Any) -> Any:
        """What process 0 gives, in every process: something that JSON can say."""
        data = json.dumps(value).encode() if self.leads else b""
        head = torch.zeros(SIZE + FIRST, dtype=torch.uint8)
        if self.leads:
            start = len(data).to_bytes(SIZE, "little") + data[:FIRST]
            head[: len(start)] = torch.frombuffer(bytearray(start), dtype=torch.uint8)
        distributed.broadcast(head, 0, self._group)
        size = int.from_bytes(bytes(head[:SIZE].tolist()), "little")
        found = bytes(head[SIZE : SIZE + min(size, FIRST)].tolist())
        if size > FIRST:
            rest = torch.zeros(size - FIRST, dtype=torch.uint8)
            if self.leads:
                rest = torch.frombuffer(bytearray(data[FIRST:]), dtype=torch.uint8)
            distributed.broadcast(rest, 0, self._group)
            found += bytes(rest.tolist())
        return json.loads(found)

    def came(self, number: int, request: Request, *, patient: bool) -> None:
        """Note a request for the next step. One that comes when all is lost ends with an error."""
        if self.broken:
            request.fail(str(_lost()))
        if not request.finish_reason:
            self._noted.append(["add", number, request.prompt, request.limit, patient])

    def left(self, number: int) -> None:
        """Note that a request was cancelled."""
        self._noted.append(["cancel", number])

    def begin(self) -> None:
        """Process 0, before a step: tell the others what was noted."""
        noted, self._noted = self._noted, []
        self.share(noted)

    def chosen(self, requests: Sequence[Request], tokens: Sequence[int]) -> list[int]:
        """The tokens that process 0 has chosen for these requests, which then have them, in every process."""
        told, reasons = self.share([list(tokens), [request.finish_reason for request in requests]])
        if not self.leads:
            for request, token, reason in zip(requests, told, reasons, strict=True):
                request.tokens.append(token)
                request.finish_reason = reason
        return told

    def end(self) -> None:
        """Process 0: let the others go."""
        if not self.broken:
            self.share([["end", 0]])

    def follow(self, scheduler: Scheduler) -> None:
        """The life of every other process: take the steps that process 0 takes, until it lets go."""
        known: dict[int, Request] = {}
        while True:
            for kind, number, *rest in self.share(None):
                if kind == "end":
                    return
                if kind == "add":
                    prompt, limit, patient = rest
                    known[number] = Request(prompt, Sampling(max_tokens=limit, seed=0), None, limit)
                    scheduler.add(known[number], patient=patient)
                elif number in known:
                    scheduler.cancel(known[number])
            with torch.inference_mode():
                scheduler.step()
            known = {number: request for number, request in known.items() if not request.finish_reason}


def refuse_divided(lockstep: Lockstep | None) -> None:
    """Raise `LuhuoError` for what only one process knows how to do."""
    if lockstep is not None:
        raise LuhuoError(
            tr("This is not there for a model that several processes share.", "多进程共用的模型不支持此功能。"),
            fix=tr("Use one process.", "请使用单进程。"),
        )


def _lost() -> LuhuoError:
    return LuhuoError(
        tr("The processes of this model have lost one another.", "该模型的各进程已失去同步。"),
        fix=tr("Start it again; the log has the cause.", "请重新启动；原因见日志。"),
    )
