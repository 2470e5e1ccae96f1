"""Source code, one file a document; binaries, minified and generated files are told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luhuo.files.blobs import Blob, read_whole
from luhuo.files.encodings import AUTO, detect
from luhuo.files.records import Broken, Record, broken, record

LANGUAGES = {
    "python": "py pyi pyx", "javascript": "js mjs cjs jsx", "typescript": "ts tsx mts cts", "java": "java",
    "c": "c h", "c++": "cc cpp cxx hh hpp hxx ipp", "c#": "cs", "cuda": "cu cuh", "go": "go", "rust": "rs",
    "ruby": "rb", "php": "php", "swift": "swift", "objective-c": "m mm", "kotlin": "kt kts", "scala": "scala sc",
    "groovy": "groovy gradle", "shell": "sh bash zsh", "powershell": "ps1 psm1", "sql": "sql", "r": "r",
    "julia": "jl", "lua": "lua", "perl": "pl pm", "haskell": "hs lhs", "ocaml": "ml mli", "f#": "fs fsx",
    "clojure": "clj cljs cljc", "elixir": "ex exs", "erlang": "erl hrl", "lisp": "lisp el scm rkt", "dart": "dart",
    "vue": "vue", "svelte": "svelte", "css": "css scss sass less", "tex": "tex sty", "cmake": "cmake",
    "protobuf": "proto", "graphql": "graphql gql", "assembly": "asm s", "fortran": "f f90 f95 f03 for",
    "pascal": "pas", "visual basic": "vb bas", "verilog": "v sv svh", "vhdl": "vhd vhdl", "solidity": "sol",
    "zig": "zig", "nim": "nim", "terraform": "tf", "batch": "bat cmd", "cobol": "cob cbl", "ada": "adb ads",
    "matlab": "mat", "thrift": "thrift", "prolog": "pro", "tcl": "tcl",
}  # fmt: skip
SUFFIXES = {suffix: language for language, listed in LANGUAGES.items() for suffix in listed.split()}

LONGEST = 1_000_000
"""A longer file is data, not something that people wrote."""

LINE_CHARS, MEAN_CHARS = 1000, 100
"""A file with a line longer than the first and a mean above the second is minified (as in The Stack, Kocetkov et al.
2022, section 4)."""

GENERATED = re.compile(
    r"@generated\b|\bauto-?\s?generated\b|\bDO NOT (EDIT|MODIFY)\b|\bgenerated (by|from|automatically)\b"
    r"|自动生成|請勿修改|请勿(手动)?(编辑|修改)",
    re.I,
)
HEAD_LINES = 10


def read_code(blob: Blob, encoding: str) -> Iterator[Record | Broken]:
    """A file as one document; `language` in the fields."""
    with blob.open() as raw:
        data = read_whole(raw)
    if data is None or len(data) > 4 * LONGEST:
        yield broken(blob.name, 0, "too_long")
        return
    codec = detect(data) if encoding.lower() == AUTO else encoding
    if b"\0" in data and not codec.startswith("utf-16"):
        yield broken(blob.name, 0, "binary")
        return
    try:
        text = data.decode("utf-8-sig" if codec.lower() in ("utf-8", "utf8") else codec)
    except (UnicodeDecodeError, LookupError) as error:
        yield broken(blob.name, 0, "bad_encoding", error)
        return
    reason = unwritten(text)
    if reason:
        yield broken(blob.name, 0, reason, text)
    else:
        yield record(text, blob.name, 1, {"language": SUFFIXES[blob.kind]})


def unwritten(text: str) -> str | None:
    """Why a text is nothing that a person wrote: "too_long", "minified", "generated"; None if one did."""
    if len(text) > LONGEST:
        return "too_long"
    written = text.splitlines() or [""]
    if max(map(len, written)) > LINE_CHARS and len(text) / len(written) > MEAN_CHARS:
        return "minified"
    if GENERATED.search("\n".join(written[:HEAD_LINES])):
        return "generated"
    return None
