"""Which requests are let in: the bounded queue, the drain, and the limits of a key."""

from __future__ import annotations

from luhuo.core.language import tr
from luhuo.serve.errors import busy, draining
from luhuo.serve.keys import Caller


class Admission:
    """Counts answers that wait or run. All of it happens on the event loop."""

    def __init__(self, limit: int) -> None:
        self.limit, self.open, self.requests = limit, 0, 0
        self.draining = False

    def enter(self, caller: Caller, answers: int) -> Ticket:
        """Let a request for so many answers in. Raises `ApiError`: 503 in the drain, 429 when the queue is full or
        a limit of the key is reached."""
        if self.draining:
            raise draining()
        if self.open + answers > self.limit:
            message = tr(
                f"The queue is full: {self.open} answers are waited for, and at most {self.limit} may be.",
                f"队列已满：已有 {self.open} 个回答在等待，上限为 {self.limit}。",
            )
            raise busy(2, message, "queue_full")
        caller.enter()
        return Ticket(self, caller, answers)


class Ticket:
    """One request that was let in; `close` gives its places back, once."""

    def __init__(self, admission: Admission, caller: Caller, answers: int) -> None:
        self._admission, self._caller, self._answers = admission, caller, answers
        self._open = True
        admission.open += answers
        admission.requests += 1

    def close(self, tokens: int) -> None:
        """The request has ended, and took so many tokens."""
        if self._open:
            self._open = False
            self._admission.open -= self._answers
            self._admission.requests -= 1
            self._caller.leave(tokens)
