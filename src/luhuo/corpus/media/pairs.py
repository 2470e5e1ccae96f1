"""Images and audio files with their captions: from a folder, a table that names them, or tar shards.

In a folder and in a tar (the WebDataset layout) files of one name belong together: `cat.jpg` with `cat.txt`, or with
`cat.json` that has a field for the caption. A table (JSON lines, JSON, CSV, Parquet) has a column with paths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.blobs import Blob, read_whole, seekable
from luhuo.files.html import decode
from luhuo.files.packed import members
from luhuo.files.readers import STRUCTURED, list_files
from luhuo.files.records import Broken, broken
from luhuo.files.streams import format_of
from luhuo.files.structured import read_rows

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
AUDIO = ("wav", "flac", "mp3")
OTHER_AUDIO = ("ogg", "opus", "m4a", "aac", "wma", "aiff", "aif", "amr")
"""Known by name and not read: reported with that reason."""
CAPTIONS = ("txt", "caption", "json")
PATH_FIELDS = ("image", "audio", "file", "file_name", "path", "img", "wav")
TEXT_FIELDS = ("caption", "text", "transcript", "transcription", "sentence", "title", "alt")


@dataclass(frozen=True)
class Item:
    """One image or audio file. `open` gives its bytes in any order."""

    name: str
    """Its path in the folder, the table or the archive."""
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    caption: str | None

    @property
    def kind(self) -> str:
        """ "image" or "audio", by its suffix."""
        return "image" if format_of(PurePosixPath(self.name)) in IMAGES else "audio"


def items(path: Path, path_field: str | None = None, text_field: str | None = None) -> Iterator[Item | Broken]:
    """What a folder, table or tar names; each has to be read before the next one is asked for.

    A caption without a file, and a file that is missing, are `Broken`. Raises `LuhuoError` if there is nothing.
    """
    files = list_files(path)
    if path.is_file() and format_of(path) in STRUCTURED:
        yield from _table(path, path_field, text_field)
        return
    shards = [file for file in files if format_of(file) == "tar"]
    if shards:
        for shard in shards:
            root = path if path.is_dir() else path.parent
            yield from _shard(shard, shard.relative_to(root).as_posix(), text_field)
        return
    found = False
    for item in _folder(files, path if path.is_dir() else path.parent, text_field):
        found = found or isinstance(item, Item)
        yield item
    if not found:
        raise LuhuoError(
            tr("There are no images and no audio files here.", "这里没有图片或音频文件。"),
            expected=", ".join((*IMAGES, *AUDIO)),
            where=path,
        )


def _is_media(kind: str) -> bool:
    return kind in IMAGES or kind in AUDIO or kind in OTHER_AUDIO


def _folder(files: Sequence[Path], root: Path, text_field: str | None) -> Iterator[Item | Broken]:
    captions: dict[Path, list[Path]] = {}
    for file in files:
        if format_of(file) in CAPTIONS:
            captions.setdefault(file.with_suffix(""), []).append(file)
    used: set[Path] = set()
    for file in files:
        if _is_media(format_of(file)):
            stem = file.with_suffix("")
            used.add(stem)
            text = next((t for c in captions.get(stem, []) if (t := _file_caption(c, text_field)) is not None), None)
            yield Item(file.relative_to(root).as_posix(), lambda f=file: seekable(Blob.of(f)), text)
    for stem in sorted(set(captions) - used):
        for file in captions[stem]:
            yield broken(file.relative_to(root).as_posix(), 0, "caption_without_file")


def _file_caption(file: Path, text_field: str | None) -> str | None:
    with file.open("rb") as handle:
        data = read_whole(handle)
    return None if data is None else _caption(data, format_of(file), text_field)


def _caption(data: bytes, kind: str, text_field: str | None) -> str | None:
    """The caption in a file beside the picture."""
    text = decode(data)
    if kind != "json":
        return text.strip() or None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _text(value, text_field)


def _text(row: Any, text_field: str | None) -> str | None:
    if isinstance(row, str):
        return row.strip() or None
    if not isinstance(row, dict):
        return None
    for name in (text_field,) if text_field else TEXT_FIELDS:
        value = row.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _table(table: Path, path_field: str | None, text_field: str | None) -> Iterator[Item | Broken]:
    """Rows of a table; paths are relative to its folder and may not lead out of it."""
    root = table.parent.resolve()
    for row in read_rows(table, "auto"):
        if isinstance(row, Broken):
            yield row
            continue
        value = row.value if isinstance(row.value, dict) else {}
        named = next((value[n] for n in ((path_field,) if path_field else PATH_FIELDS) if value.get(n)), None)
        if not isinstance(named, str):
            yield broken(table.name, row.line, "missing_field", row.value)
            continue
        file = root / named
        if not file.resolve().is_relative_to(root):
            yield broken(table.name, row.line, "outside", named)
        elif not file.is_file():
            yield broken(table.name, row.line, "missing_file", named)
        elif not _is_media(format_of(file)):
            yield broken(table.name, row.line, "unknown_format", named)
        else:
            yield Item(named, lambda f=file: seekable(Blob.of(f)), _text(value, text_field))


def _shard(shard: Path, name: str, text_field: str | None) -> Iterator[Item | Broken]:
    """A tar in which the files of a sample stand one behind the other. What was read of a picture is held until its
    caption came."""
    held: tuple[str, str, bytes] | None = None
    text: tuple[str, str | None] | None = None
    for member in members(Blob.of(shard)):
        if isinstance(member, Broken):
            yield member
            continue
        inner = member.name.removeprefix(f"{shard.as_posix()}/")
        stem = inner.rpartition(".")[0]
        if held is not None and held[0] != stem:
            yield _held(held, text)
            held = None
        if _is_media(member.kind):
            if held is not None:
                yield _held(held, text)
            with member.open() as raw:
                data = read_whole(raw)
            if data is None:
                yield broken(f"{name}/{inner}", 0, "too_long")
            else:
                held = (stem, f"{name}/{inner}", data)
        elif member.kind in CAPTIONS:
            with member.open() as raw:
                data = read_whole(raw)
            text = (stem, None if data is None else _caption(data, member.kind, text_field))
    if held is not None:
        yield _held(held, text)


def _held(held: tuple[str, str, bytes], text: tuple[str, str | None] | None) -> Item:
    stem, name, data = held
    return Item(name, lambda: nullcontext(BytesIO(data)), text[1] if text and text[0] == stem else None)
