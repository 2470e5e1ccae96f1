"""Stage `media`: a manifest of images or audio files with their captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class MediaStage(Stage):
    """Pair images and audio with captions, measure them, find duplicates, and set aside what cannot be used."""

    version: ClassVar[int] = 1

    data: Input = field(
        ...,
        "Folder, table with paths (JSON, CSV, Parquet), tar shards, or reference.",
        "目录、含路径的表（JSON、CSV、Parquet）、tar 分片或引用。",
    )
    licence: str = field("unknown", "Licence of the material, as an SPDX name.", "素材许可证（SPDX 名称）。")
    path_field: str | None = field(
        None,
        "Column with the file's path (null: image, audio, file, …).",
        "路径所在列（null：image、audio、file 等）。",
    )
    caption_field: str | None = field(
        None, "Field of the caption (null: caption, text, transcript, …).", "说明所在字段（null：caption、text 等）。"
    )
    need_caption: bool = field(False, "Drop what has no caption.", "丢弃没有说明的文件。")
    min_side: int = field(32, "Shortest side of an image, in pixels.", "图片短边下限，单位像素。", ge=1)
    max_side: int = field(20_000, "Longest side of an image, in pixels.", "图片长边上限，单位像素。", ge=1)
    max_aspect: float = field(5.0, "Longest side by shortest side.", "长边与短边之比上限。", ge=1)
    max_megapixels: float = field(
        90.0,
        "Larger images are refused before they are unpacked, in millions of pixels.",
        "更大的图片在解码前拒绝，单位百万像素。",
        gt=0,
    )
    min_seconds: float = field(0.1, "Shortest sound, in seconds.", "音频最短时长，单位秒。", ge=0)
    max_seconds: float = field(36_000.0, "Longest sound, in seconds.", "音频最长时长，单位秒。", gt=0)
    near: int | None = field(
        8,
        "Images are alike if neither of their two hashes differs in more of its 64 bits (null: equal files only).",
        "两种 64 位感知哈希相差均不超过这么多位的图片视为重复（null：仅相同文件）。",
        ge=0,
        le=20,
    )
    duplicates: Literal["drop", "mark"] = field(
        "drop",
        "drop: keep one of each cluster; mark: keep all.",
        "drop：每簇保留一个；mark：全部保留。",
    )

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.media.build import build

        build(self, out)
