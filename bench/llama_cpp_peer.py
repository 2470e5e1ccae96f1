"""llama.cpp, asked by JSON lines on standard input; runs in an environment of its own with `llama-cpp-python`.

Requests: {"do": "logits" | "perplexity" | "greedy" | "speed" | "batched" | "tokenize" | "quantise" | "blocks" |
"version", "path": FILE, …}. One answer a line. Everything is computed on the CPU, but for "speed" and "batched" with
keys and values in float32 and without flash attention.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as api

F32, OFF, ERROR = 0, 0, 4


@api.llama_log_callback
def _log(level: int, text: bytes, _: object) -> None:
    if level == ERROR:
        sys.stderr.write(text.decode(errors="replace"))


@contextmanager
def opened(path: str, *, vocabulary_only: bool = False) -> Iterator[Any]:
    settings = api.llama_model_default_params()
    settings.n_gpu_layers, settings.vocab_only = 0, vocabulary_only
    model = api.llama_model_load_from_file(path.encode(), settings)
    if not model:
        raise RuntimeError("llama.cpp does not load this file")
    try:
        yield model
    finally:
        api.llama_model_free(model)


@contextmanager
def context_of(model: Any, length: int, threads: int) -> Iterator[Any]:
    settings = api.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = length
    settings.n_threads = settings.n_threads_batch = threads
    settings.type_k = settings.type_v = F32
    settings.flash_attn_type = OFF
    context = api.llama_init_from_model(model, settings)
    try:
        yield context
    finally:
        api.llama_free(context)


def forward(context: Any, model: Any, ids: list[int], start: int = 0, first: int = 0) -> np.ndarray:
    """Logits (len(ids) - first, vocabulary) of the tokens from index `first` on; the first token is at `start`."""
    batch = api.llama_batch_init(len(ids), 0, 1)
    for index, token in enumerate(ids):
        batch.token[index], batch.pos[index] = token, start + index
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        batch.logits[index] = index >= first
    batch.n_tokens = len(ids)
    status = api.llama_decode(context, batch)
    if status:
        raise RuntimeError(f"llama_decode: {status}")
    width = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    rows = [api.llama_get_logits_ith(context, index) for index in range(first, len(ids))]
    found = np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])
    api.llama_batch_free(batch)
    return found


def logits(request: dict[str, Any]) -> dict[str, Any]:
    """All logits of `ids`, saved to the file `out`."""
    ids = request["ids"]
    with opened(request["path"]) as model, context_of(model, 256, 1) as context:
        np.save(request["out"], forward(context, model, ids))
    return {}


def perplexity(request: dict[str, Any]) -> dict[str, Any]:
    """Chunks of `length` tokens on their own; the predictions of the second half count, as llama-perplexity's do."""
    ids, length = request["ids"], request["length"]
    half, total, count = length // 2, 0.0, 0
    with opened(request["path"]) as model, context_of(model, length, request["threads"]) as context:
        for at in range(0, len(ids) - length + 1, length):
            chunk = ids[at : at + length]
            api.llama_memory_clear(api.llama_get_memory(context), True)
            rows = forward(context, model, chunk, first=half)[:-1].astype(np.float64)
            peak = rows.max(1, keepdims=True)
            norm = np.log(np.exp(rows - peak).sum(1)) + peak[:, 0]
            total += float((norm - rows[np.arange(len(rows)), chunk[half + 1 :]]).sum())
            count += len(rows)
    return {"perplexity": math.exp(total / count), "scored": count}


def greedy(request: dict[str, Any]) -> dict[str, Any]:
    """`count` likeliest tokens after each of `prompts`, one by one."""
    answers = []
    with opened(request["path"]) as model:
        for prompt in request["prompts"]:
            with context_of(model, 512, request["threads"]) as context:
                answer = [int(forward(context, model, prompt, first=len(prompt) - 1)[-1].argmax())]
                while len(answer) < request["count"]:
                    at = len(prompt) + len(answer) - 1
                    answer.append(int(forward(context, model, answer[-1:], start=at)[-1].argmax()))
            answers.append(answer)
    return {"answers": answers}


def tokenize(request: dict[str, Any]) -> dict[str, Any]:
    """Ids of each of `lines`, special tokens in them taken as text."""
    found = []
    with opened(request["path"], vocabulary_only=True) as model:
        vocabulary = api.llama_model_get_vocab(model)
        for line in request["lines"]:
            data = line.encode()
            room = (api.llama_token * (len(data) + 8))()
            count = api.llama_tokenize(vocabulary, data, len(data), room, len(room), False, False)
            found.append(list(room[:count]))
    return {"ids": found}


def speed(request: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of one stream, with llama.cpp's own defaults for the cache and flash attention."""
    settings = api.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = max(
        request["prefill"], request["prompt"] + request["new"] + 8
    )
    settings.n_threads = settings.n_threads_batch = request["threads"]
    with opened(request["path"]) as model:
        context = api.llama_init_from_model(model, settings)
        ids = list(range(100, 100 + request["prefill"]))
        forward(context, model, ids[: request["prompt"]], first=request["prompt"] - 1)
        token, start = 0, time.perf_counter()
        for at in range(request["new"]):
            rows = forward(context, model, [token], start=request["prompt"] + at)
            token = int(rows[-1].argmax())
        decode = request["new"] / (time.perf_counter() - start)
        api.llama_memory_clear(api.llama_get_memory(context), True)
        start = time.perf_counter()
        forward(context, model, ids, first=request["prefill"] - 1)
        prefill = request["prefill"] / (time.perf_counter() - start)
        api.llama_free(context)
    return {"decode": decode, "prefill": prefill}


def batched(request: dict[str, Any]) -> dict[str, Any]:
    """Generated tokens a second of `sequences` conversations at a time, with llama.cpp's defaults.

    `talks` are lists of turns, each [tokens read, tokens written]; a turn goes on behind the one before in the same
    cache. One batch holds the next token of every sequence that writes and the whole text of one that begins a turn.
    """
    talks, count = request["talks"], request["sequences"]
    longest = max(sum(read + written for read, written in talk) for talk in talks)
    settings = api.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max, settings.n_batch = count * (longest + 8), count, 2048
    settings.n_threads = settings.n_threads_batch = request["threads"]
    with opened(request["path"]) as model:
        context = api.llama_init_from_model(model, settings)
        memory, width = api.llama_get_memory(context), api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        batch = api.llama_batch_init(2048, 0, 1)
        waiting = [list(map(tuple, talk)) for talk in reversed(talks)]
        turns: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        left, place, token, written = [0] * count, [0] * count, [1] * count, 0
        start = time.perf_counter()
        while True:
            rows = [(slot, [token[slot]]) for slot in range(count) if left[slot]]
            room = 2048 - len(rows)
            for slot in range(count):
                if left[slot]:
                    continue
                if not turns[slot]:
                    if not waiting:
                        continue
                    turns[slot], place[slot] = waiting.pop(), 0
                    api.llama_memory_seq_rm(memory, slot, -1, -1)
                read, new = turns[slot][0]
                if read <= room:
                    turns[slot].pop(0)
                    left[slot], room = new, room - read
                    rows.append((slot, list(range(100, 100 + read))))
            if not rows:
                break
            at, ends = 0, []
            for slot, ids in rows:
                for index, value in enumerate(ids):
                    batch.token[at], batch.pos[at] = value, place[slot] + index
                    batch.n_seq_id[at], batch.seq_id[at][0] = 1, slot
                    batch.logits[at] = index == len(ids) - 1
                    at += 1
                place[slot] += len(ids)
                ends.append(at - 1)
            batch.n_tokens = at
            status = api.llama_decode(context, batch)
            if status:
                raise RuntimeError(f"llama_decode: {status}")
            for (slot, _), end in zip(rows, ends, strict=True):
                token[slot] = int(np.ctypeslib.as_array(api.llama_get_logits_ith(context, end), (width,)).argmax())
                left[slot] -= 1
                written += 1
        seconds = time.perf_counter() - start
        api.llama_batch_free(batch)
        api.llama_free(context)
    return {"tokens_per_s": written / seconds, "written": written, "seconds": seconds}


def quantise(request: dict[str, Any]) -> dict[str, Any]:
    """The file `path` written to `out` in the file type `ftype`; `importance`, if given, is an .npz of tables by the
    tensors' names. Says the seconds it took."""
    settings = api.llama_model_quantize_default_params()
    settings.nthread, settings.ftype = request["threads"], request["ftype"]
    tables = dict(np.load(request["importance"])) if request.get("importance") else {}
    entries = (api.llama_model_imatrix_data * (len(tables) + 1))()
    for entry, (name, table) in zip(entries, tables.items(), strict=False):
        entry.name, entry.size = name.encode(), table.size
        entry.data = table.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if tables:
        settings.imatrix = ctypes.cast(entries, type(settings.imatrix))
    start = time.perf_counter()
    status = api.llama_model_quantize(request["path"].encode(), request["out"].encode(), ctypes.byref(settings))
    if status:
        raise RuntimeError(f"llama_model_quantize: {status}")
    return {"seconds": time.perf_counter() - start}


def blocks(request: dict[str, Any]) -> dict[str, Any]:
    """The numbers (rows, 256) in the file `path` (.npy) as blocks of ggml's type `kind`, in the file `out`."""
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    chunk, rows = library.ggml_quantize_chunk, np.ascontiguousarray(np.load(request["path"]))
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    found = np.zeros(len(rows) * request["bytes"], np.uint8)
    chunk(request["kind"], rows.ctypes.data, found.ctypes.data, 0, len(rows), rows.shape[1], None)
    np.save(request["out"], found)
    return {}


def version(_: dict[str, Any]) -> dict[str, Any]:
    return {"llama-cpp-python": llama_cpp.__version__}


ACTIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    function.__name__: function
    for function in (logits, perplexity, greedy, quantise, blocks, speed, batched, tokenize, version)
}


def main() -> None:
    api.llama_backend_init()
    api.llama_log_set(_log, ctypes.c_void_p(0))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = ACTIONS[request["do"]](request)
        except RuntimeError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
