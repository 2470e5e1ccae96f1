"""Data sets at a hub read as a stream: the list of their files first, then one file after the other.

`references.resolve` fetches everything a reference names before it returns. Of a data set in a thousand files that is
neither wanted for the first record nor needed by a worker that reads some of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files import hub
from luhuo.files.readers import FORMATS, read_file, read_records
from luhuo.files.records import Broken, Record
from luhuo.files.references import resolve
from luhuo.files.streams import format_of

ABOUT = (
    "README*",
    "LICENSE*",
    "NOTICE*",
    "*.py",
    "dataset_info*.json",
    "dataset_dict.json",
    "state.json",
    ".*",
    "*/.*",
)
"""Files of a data set that say something of it and are none of its data."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set."""

    reference: str
    """What `resolve` fetches it by, with the revision that was listed."""
    name: str
    """Its path in the data set."""
    size: int | None
    """Bytes, where the hub tells."""


def is_data_set(reference: str) -> bool:
    """Whether it names (part of) a data set at a hub."""
    scheme, colon, rest = reference.partition(":")
    return bool(colon) and scheme in hub.HUBS and rest.startswith("datasets/")


def list_remote(reference: str) -> list[RemoteFile]:
    """The data files of a data set that the reference names, sorted, nothing fetched but their list. All have the
    revision that the name stood for when it was listed. Raises `LuhuoError` if there are none."""
    scheme, _, rest = reference.partition(":")
    asked = hub.parse(scheme, rest)
    revision, sizes = hub.listing(asked)
    whole = not asked.inner
    names = [
        name
        for name in sorted(asked.chosen(sizes))
        if format_of(PurePosixPath(name)) in FORMATS and not (whole and any(fnmatchcase(name, p) for p in ABOUT))
    ]
    if not names:
        raise LuhuoError(
            tr("The data set has no file that can be read.", "数据集中没有可读的文件。"),
            expected=tr("files such as .parquet, .jsonl, .csv, .txt", ".parquet、.jsonl、.csv、.txt 之类的文件"),
            found=", ".join(sorted(sizes)[:8]) or None,
            where=reference,
        )
    pinned = replace(asked, revision=revision)
    return [RemoteFile(str(replace(pinned, inner=name)), name, sizes[name]) for name in names]


def read_reference(reference: str, *, text_field: str = "text", encoding: str = "utf-8") -> Iterator[Record | Broken]:
    """The records of whatever a reference names; of a data set at a hub each file is fetched when its turn comes."""
    if not is_data_set(reference):
        yield from read_records(resolve(reference).path, text_field=text_field, encoding=encoding)
        return
    for file in list_remote(reference):
        yield from read_file(fetch(file.reference), text_field=text_field, encoding=encoding)


def inner_name(reference: str) -> str:
    """The path in the data set of one of its files."""
    scheme, _, rest = reference.partition(":")
    return hub.parse(scheme, rest).inner


def fetch(reference: str) -> Path:
    """One file of a data set, from the cache or the hub."""
    return resolve(reference).path
