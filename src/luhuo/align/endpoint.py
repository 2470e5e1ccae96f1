"""Asking a model behind an OpenAI-compatible HTTP endpoint (`/chat/completions`): a teacher, a judge, a critic.

A busy or failing server is asked again, with longer and longer pauses or as long as it says (`Retry-After`); what it
refuses for one question is that question's failure, and only what is wrong for all of them (no connection, no such
model, a key that is not accepted) ends the run. The key comes from an environment variable, never from a file.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from luhuo.align.endpoint_config import EndpointConfig
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.files.transport import passing, public

PAUSE_S = 1.0
"""Seconds before the second try; each further one waits twice as long, up to `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S = 60.0
MOST_BYTES = 32 << 20
"""Of one answer."""
WRONG_FOR_ALL = (401, 403, 404, 405)
"""Refusals that are none of the question's: key, address, name of the model."""
TOP = 20
"""Most probable tokens that the API tells at a place."""


@dataclass(frozen=True)
class Question:
    """What a model is asked: messages in OpenAI's layout, and how it is to answer."""

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    logprobs: bool = False
    """Whether the most probable tokens at each place are wanted."""


@dataclass(frozen=True)
class Reply:
    """What it answered. `finish_reason` is "stop" where it ended by itself and "length" where it was cut off."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    tokens: int = 0
    places: list[dict[str, float]] = field(default_factory=list)
    """At each place the most probable tokens as text with their log-probabilities; empty if not asked or not told."""


@dataclass(frozen=True)
class NoReply:
    """Why there is none to this question."""

    reason: str


class Endpoint:
    """A model behind an endpoint. To be closed, or used in a `with` statement. Raises `LuhuoError` without the key."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._url = config.url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "luhuo"}
        if config.key_from:
            if not os.environ.get(config.key_from):
                raise LuhuoError(
                    tr("The key of the endpoint is not set.", "未设置端点的密钥。"),
                    where=config.key_from,
                    fix=tr(f"export {config.key_from}=…", f"export {config.key_from}=…"),
                )
            self._headers["Authorization"] = f"Bearer {os.environ[config.key_from]}"
        self._opener = urllib.request.build_opener(_NoRedirects())
        self._pool = ThreadPoolExecutor(config.at_once, thread_name_prefix="endpoint")
        self._stop = threading.Event()
        self._heard = False
        """Whether it ever answered: then a lost connection is one question's failure, before it is everyone's."""

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ask nothing more."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def ask(self, questions: Sequence[Question]) -> list[Reply | NoReply]:
        """A reply to each question, in order, `at_once` at a time.

        Raises `LuhuoError` where the endpoint refuses whatever is asked, and `RunFailed` where it cannot be reached.
        """
        return list(self.stream(questions))

    def stream(self, questions: Iterable[Question]) -> Iterator[Reply | NoReply]:
        """As `ask`, one after the other; of the questions only as many are taken as are under way."""
        waiting = iter(questions)
        under_way: list[Future[Reply | NoReply]] = []
        try:
            under_way += [self._pool.submit(self._reply, one) for one in islice(waiting, 2 * self.config.at_once)]
            while under_way:
                reply = under_way.pop(0).result()
                under_way += [self._pool.submit(self._reply, one) for one in islice(waiting, 1)]
                yield reply
        finally:
            for future in under_way:
                future.cancel()

    def _reply(self, question: Question) -> Reply | NoReply:
        """One reply. Raises `LuhuoError` and `RunFailed` as `ask` does."""
        body = json.dumps(self._body(question), ensure_ascii=False).encode("utf-8", "surrogatepass")
        last: OSError | http.client.HTTPException | ValueError | None = None
        for attempt in range(self.config.tries):
            if self._stop.is_set():
                return NoReply(tr("stopped", "已停止"))
            if last is not None:
                self._stop.wait(_pause(last, attempt))
            try:
                request = urllib.request.Request(self._url, data=body, headers=self._headers, method="POST")
                with self._opener.open(request, timeout=self.config.seconds) as response:
                    content = response.read(MOST_BYTES + 1)
                self._heard = True
                return _read(content, question.logprobs)
            except urllib.error.HTTPError as error:
                self._heard = True
                last = error
                if error.code in WRONG_FOR_ALL:
                    raise self._refused(error) from None
                if not passing(error):
                    return NoReply(f"HTTP {error.code}: {_told(error)}")
            except (OSError, http.client.HTTPException) as error:
                last = error
                if not passing(error):
                    break
            except ValueError as error:  # no JSON, or none of the API's: proxies answer so while a server restarts
                last = error
        if not self._heard:
            raise self._unreachable(last)
        return NoReply(f"{type(last).__name__}: {last}")

    def _body(self, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": [dict(message) for message in question.messages],
            self.config.limit_name: question.max_tokens,
            "temperature": question.temperature,
        }
        if question.seed is not None:
            body["seed"] = question.seed % (1 << 31)
        if question.logprobs:
            body |= {"logprobs": True, "top_logprobs": TOP}
        return body | self.config.extra

    def _refused(self, error: urllib.error.HTTPError) -> LuhuoError:
        return LuhuoError(
            tr("The endpoint refuses every question.", "端点拒绝一切请求。"),
            found=f"HTTP {error.code}: {_told(error)}",
            where=f"{public(self._url)}, model: {self.config.model}",
            fix=tr("Look at url, model and key_from.", "请检查 url、model 与 key_from。"),
        )

    def _unreachable(self, error: object) -> RunFailed:
        return RunFailed(
            tr("The endpoint cannot be reached.", "无法连接端点。"),
            found=f"{type(error).__name__}: {error}",
            where=public(self._url),
            fix=tr(
                "Start the server, or correct url; what was answered is kept, and the same command goes on.",
                "请启动服务器或更正 url；已得到的回答会保留，重新运行同一命令即可继续。",
            ),
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its content, and a key must not travel to another host."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _read(content: bytes, logprobs: bool) -> Reply:
    """The reply in an answer of the API. Raises ValueError for anything else."""
    if len(content) > MOST_BYTES:
        raise ValueError(tr("the answer is too long", "应答过长"))
    try:
        values = json.loads(content)
        choice, usage = values["choices"][0], values.get("usage") or {}
        text = choice["message"].get("content") or ""
        if not isinstance(text, str):
            raise TypeError(type(text).__name__)
        told = (choice.get("logprobs") or {}).get("content") or [] if logprobs else []
        places = [_best(place.get("top_logprobs") or [place]) for place in told]
        reason = "length" if choice.get("finish_reason") == "length" else "stop"
        counts = [usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")]
        return Reply(text, reason, int(counts[0]), int(counts[1]), places)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(
            tr("this is no answer of a chat model: ", "这不是对话模型的应答：") + f"{type(error).__name__}: {error}"
        ) from None


def _best(listed: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Log-probabilities by text; halves of characters can have the same one, of which the likeliest counts."""
    found: dict[str, float] = {}
    for one in listed:
        text, value = str(one["token"]), float(one["logprob"])
        found[text] = max(value, found.get(text, value))
    return found


def _told(error: urllib.error.HTTPError) -> str:
    """What a refusal says, shortened."""
    try:
        text = error.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        return str(json.loads(text)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return " ".join(text.split())[:300] or str(error.reason)


def _pause(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the server says, else doubling, with some chance so that not all come back at once."""
    if isinstance(error, urllib.error.HTTPError):
        try:
            said = float(error.headers.get("Retry-After") or "nan")
        except ValueError:  # a date
            said = math.nan
        if said >= 0:
            return min(said, LONGEST_PAUSE_S)
    return min(PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)
