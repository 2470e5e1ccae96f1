"""A turn of a battle: both models write at once, and what they write reaches the page piece by piece.

Events are objects: {"side": "a", "text": …} for a piece, {"side": "a", "end": …} when a side is done ("error": why it
has no answer), {"done": true} when the turn is kept. Models are nowhere in them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from luhuo.arena.players import Player
from luhuo.arena.store import Battle, Turn
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

Event = dict[str, Any]


async def turn(
    battle: Battle,
    prompt: str,
    players: Mapping[str, Player],
    pool: ThreadPoolExecutor,
    keep: Callable[[Turn], Awaitable[None]],
) -> AsyncIterator[Event]:
    """Events of a turn; the whole turn is given to `keep` before the last one. Whoever stops listening stops both."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event]()
    stop = threading.Event()

    def write(side: str, model: str) -> None:
        def send(event: Event) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, {"side": side, **event})

        error = ""
        try:
            for piece in players[model].stream(battle.messages(side, prompt), stop):
                send({"text": piece})
        except LuhuoError as problem:
            error = problem.problem
        except Exception as problem:  # whatever a model's code raises ends its side and no other
            error = f"{tr('The model failed.', '模型出错。')} ({type(problem).__name__})"
        finally:
            send({"end": True, "error": _anonymous(error, players)})

    for side, model in (("a", battle.model_a), ("b", battle.model_b)):
        pool.submit(write, side, model)
    texts, errors, left = {"a": "", "b": ""}, {"a": "", "b": ""}, 2
    try:
        while left:
            event = await queue.get()
            if event.get("end"):
                left -= 1
                if not event["error"] and not texts[event["side"]].strip():
                    event["error"] = tr("The answer is empty.", "回答为空。")
                errors[event["side"]] = event["error"]
            else:
                texts[event["side"]] += event["text"]
            yield event
        await keep(Turn(prompt, texts["a"], texts["b"], errors["a"], errors["b"]))
        yield {"done": True, "whole": not any(errors.values())}
    finally:
        stop.set()


def _anonymous(error: str, players: Mapping[str, Player]) -> str:
    """A message without the models' names."""
    for name in sorted(players, key=len, reverse=True):
        error = error.replace(name, "…")
    return error
