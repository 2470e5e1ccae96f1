"""`luhuo batch MODEL in.jsonl out.jsonl`: OpenAI's batch format, answered in order and continued after a crash.

Answers are appended to a file beside the final one, whole lines in the order of the requests; what stands there when
the command is given again is kept. The digest of the requests says whether they are still the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from pydantic import ValidationError

from luhuo.core.atomic import write_json
from luhuo.core.errors import EXIT_FAILED, EXIT_OK, LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress, say
from luhuo.core.seeds import derive_seed
from luhuo.inference.request import Request
from luhuo.serve.adapters import load_named
from luhuo.serve.answers import Collected, Envelope, new_id, reason, usage
from luhuo.serve.choices import chat_choice, completion_object
from luhuo.serve.errors import ApiError, failed, wrong
from luhuo.serve.lines import json_line
from luhuo.serve.prompts import chat_requests, completion_requests
from luhuo.serve.schemas import ChatBody, CompletionBody
from luhuo.serve.served import Models, Served

BODIES = {"/v1/chat/completions": ChatBody, "/v1/completions": CompletionBody}
MAX_LINE = 16 << 20
WINDOW = 512
"""Answers that wait or run at a time."""
SEED_BITS = 2**62


@dataclass
class _Line:
    """One line of the requests, and the sequences that answer it."""

    number: int
    custom_id: str | None
    served: Served | None = None
    body: ChatBody | CompletionBody | None = None
    groups: list[list[Request]] = field(default_factory=list)
    error: ApiError | None = None

    @property
    def requests(self) -> list[Request]:
        return [request for group in self.groups for request in group]

    @property
    def done(self) -> bool:
        return all(request.finish_reason for request in self.requests)


def run_batch(
    model: str,
    source: Path,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    adapters: Sequence[str] = (),
    dtype: str,
    device: str,
) -> int:
    """Answer every line of `source`, and return the exit code: 1 where a line could not be answered.

    A line whose `model` is the name of one of `adapters` (NAME=DIR) is answered with that. Raises `LuhuoError` for a
    file that is not there, and for a half-done output that belongs to other requests.
    """
    from luhuo.adapter.open import open_decoder
    from luhuo.inference.engine import Engine

    if not source.is_file():
        raise LuhuoError(tr("There is no such file of requests.", "没有这个请求文件。"), where=source)
    if out.exists() and not force:
        raise LuhuoError(
            tr("This output is there already.", "输出文件已存在。"),
            where=out,
            fix=tr("Choose another name, or --force.", "换一个名称，或使用 --force。"),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(f".{out.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            partial, total = _Partial(out, source, [model, *adapters], seed, force), _count(source)
            engine = Engine(open_decoder(model, dtype=dtype, device=device))
            served = Models([Served(model, engine=engine, reference=model)])
            load_named(served, adapters)
            try:
                failed = _answer_all(served, source, partial, total, seed)
            finally:
                partial.close()
            partial.finish()
            lock.unlink()
    except Timeout:
        raise LuhuoError(tr("Another process writes this output.", "另一进程正在写此输出。"), where=out) from None
    say(tr(f"{total} requests, {failed} of them failed: {out}", f"共 {total} 个请求，{failed} 个失败：{out}"))
    return EXIT_FAILED if failed else EXIT_OK


class _Partial:
    """The output while it grows."""

    def __init__(self, out: Path, source: Path, models: list[str], seed: int, force: bool) -> None:
        self._out = out
        self._file, self._state = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.state.json")
        state = {"requests": _digest(source), "model": " ".join(models), "seed": seed}
        if force:
            self._file.unlink(missing_ok=True)
        elif self._file.exists() and self._state.exists():
            before = json.loads(self._state.read_text(encoding="utf-8"))
            if before != state:
                raise LuhuoError(
                    tr(
                        "A half-done output of other requests or settings lies here.",
                        "此处有其他请求或设置的未完成输出。",
                    ),
                    expected=before,
                    found=state,
                    where=self._file,
                    fix=tr(
                        "Use --force to begin anew, or another output.", "使用 --force 重新开始，或换一个输出文件。"
                    ),
                )
        else:
            self._file.unlink(missing_ok=True)
        write_json(self._state, state)
        self.done, self.failed = self._recover()
        self._handle: BinaryIO = self._file.open("ab")

    def _recover(self) -> tuple[int, int]:
        """(whole lines that stand there, those with an error); half a line at the end is cut off."""
        done = failed = size = 0
        if self._file.exists():
            with self._file.open("r+b") as handle:
                for line in handle:
                    if not line.endswith(b"\n"):
                        break
                    size += len(line)
                    done += 1
                    failed += json.loads(line)["error"] is not None
                handle.truncate(size)
        return done, failed

    def write(self, record: dict[str, Any]) -> None:
        """Append one line; the system has it when this returns."""
        self._handle.write(json_line(record).encode() + b"\n")
        self._handle.flush()
        self.done += 1

    def close(self) -> None:
        """Put everything on the disk."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()

    def finish(self) -> None:
        """Give the output its name."""
        self._file.replace(self._out)
        self._state.unlink()


def _answer_all(models: Models, source: Path, partial: _Partial, total: int, seed: int) -> int:
    """Keep the engine full, write answers in the order of their requests, and count those that failed."""
    engine = next(iter(models)).writer
    lines = _lines(models, source, partial.done, seed)
    window: deque[_Line] = deque()
    open_answers, more = 0, True
    with Progress(tr("batch", "批处理"), total, tr("requests", "个请求")) as progress:
        progress.start_from(partial.done)
        while more or window:
            while more and open_answers < WINDOW:
                line = next(lines, None)
                if line is None:
                    more = False
                    break
                for request in line.requests:
                    engine.submit(request, _nothing)
                open_answers += max(1, len(line.requests))
                window.append(line)
            while window and window[0].done:
                line = window.popleft()
                open_answers -= max(1, len(line.requests))
                record = _record(line)
                partial.failed += record["error"] is not None
                partial.write(record)
                progress.advance()
            if not engine.idle:
                engine.step()
    return partial.failed


def _nothing(request: Request) -> None:
    """The loop looks at the requests by itself."""


def _lines(models: Models, source: Path, skip: int, seed: int) -> Iterator[_Line]:
    """The requests, ready to run, from the first that has no answer yet."""
    seen: set[bytes] = set()
    with source.open("rb") as handle:
        number = 0
        while raw := handle.readline(MAX_LINE + 1):
            if len(raw) > MAX_LINE:
                while raw and not raw.endswith(b"\n"):
                    raw = handle.readline(MAX_LINE)
                raw = b"\0"
            if not raw.strip():
                continue
            number += 1
            custom_id, values, error = _parsed(raw)
            if custom_id is not None:
                digest = hashlib.sha256(custom_id.encode()).digest()[:12]
                if digest in seen:
                    error = error or wrong(tr("This custom_id was used before.", "custom_id 重复。"), "custom_id")
                seen.add(digest)
            if number > skip:
                yield _prepared(models, _Line(number, custom_id, error=error), values, seed)


def _parsed(raw: bytes) -> tuple[str | None, dict[str, Any], ApiError | None]:
    """(custom_id, the line's object, what is wrong with it)."""
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return None, {}, wrong(tr(f"The line is not valid JSON: {error}", f"该行不是合法的 JSON：{error}"))
    if not isinstance(values, dict):
        return None, {}, wrong(tr("The line is not a JSON object.", "该行不是 JSON 对象。"))
    custom_id = values.get("custom_id")
    if not isinstance(custom_id, str) or any("\ud800" <= c <= "\udfff" for c in custom_id):
        return (
            None,
            values,
            wrong(tr("The line needs a custom_id, a text.", "该行缺少文本类型的 custom_id。"), "custom_id"),
        )
    return custom_id, values, None


def _prepared(models: Models, line: _Line, values: dict[str, Any], seed: int) -> _Line:
    """The line with its sequences, or with what is wrong."""
    if line.error is not None:
        return line
    try:
        url, body = values.get("url"), values.get("body")
        if values.get("method") != "POST" or url not in BODIES or not isinstance(body, dict):
            paths = ", ".join(BODIES)
            raise wrong(
                tr(
                    f"A line has method POST, url ({paths}) and body.",
                    f"每行应有 method（POST）、url（{paths}）与 body。",
                )
            )
        if body.get("stream"):
            raise wrong(tr("A batch does not stream.", "批处理不支持流式输出。"), "stream")
        if body.get("seed") is None:
            body = body | {"seed": derive_seed(seed, str(line.custom_id)) % SEED_BITS}
        served = line.served = next((one for one in models if one.name == body.get("model")), next(iter(models)))
        body = {"model": served.name} | body
        if BODIES[url] is ChatBody:
            line.body = ChatBody.model_validate(body)
            line.groups = [chat_requests(served, line.body, None)]
        else:
            line.body = CompletionBody.model_validate(body)
            line.groups = completion_requests(served, line.body, None)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:8])
        line.error = wrong(told)
    except ApiError as error:
        line.error = error
    except LuhuoError as error:
        line.error = wrong(str(error))
    return line


def _record(line: _Line) -> dict[str, Any]:
    """The line of the output."""
    head = {"id": new_id("batch_req"), "custom_id": line.custom_id}
    broken = [request for request in line.requests if request.finish_reason == "error"]
    if broken:
        line.error = failed(broken[0].error)
    if line.error is not None:
        error = line.error.body["error"]
        told = {"code": error["code"] or error["type"], "message": error["message"], "line": line.number}
        response = {"status_code": line.error.status, "request_id": head["id"], "body": line.error.body}
        return head | {"response": response, "error": told}
    assert line.body is not None and line.served is not None  # a line without them has an error
    served, answers = line.served, [_collected(request) for request in line.requests]
    if isinstance(line.body, ChatBody):
        pairs = enumerate(zip(answers, line.requests, strict=True))
        choices = [chat_choice(served, line.body, index, answer, request) for index, (answer, request) in pairs]
        first = line.requests[0]
        tokens = usage(len(first.prompt), sum(len(answer.tokens) for answer in answers), first.cached_tokens)
        body = Envelope("chatcmpl", "chat.completion", served.name).whole(choices, tokens)
    else:
        body = completion_object(served, line.body, line.groups, answers)
    return head | {"response": {"status_code": 200, "request_id": head["id"], "body": body}, "error": None}


def _collected(request: Request) -> Collected:
    return Collected(
        request.text, request.tokens, request.logprobs, request.top_logprobs, reason(request.finish_reason)
    )


def _count(source: Path) -> int:
    with source.open("rb") as handle:
        return sum(1 for line in handle if line.strip())


def _digest(source: Path) -> str:
    with source.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
