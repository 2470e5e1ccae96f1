"""The stage `media`: pairing, sizes, durations, pictures that look alike, and files that cannot be used."""

from __future__ import annotations

import io
import json
import random
import struct
import wave
import zlib
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.media.audio import read_audio
from luhuo.corpus.media.images import Unreadable
from luhuo.corpus.media.stages import MediaStage
from tests.document_cases import tarred

pytest.importorskip("PIL", reason="the extra `data` is not installed")
from PIL import Image, ImageDraw, ImageEnhance


def scene(seed: int, size: tuple[int, int] = (240, 160)) -> Image.Image:
    """A picture of random shapes on a random ground."""
    rng = random.Random(seed)
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        w, h = rng.randrange(20, 110), rng.randrange(20, 110)
        shape = rng.choice((draw.ellipse, draw.rectangle))
        shape((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=tuple(rng.randrange(256) for _ in range(3)))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def wav(seconds: float, rate: int = 8000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as handle:
        handle.setnchannels(channels)
        handle.setsampwidth(2)
        handle.setframerate(rate)
        handle.writeframes(b"\1\0" * int(seconds * rate) * channels)
    return out.getvalue()


def flac(seconds: int, rate: int = 16000, channels: int = 2) -> bytes:
    packed = rate << 44 | (channels - 1) << 41 | 15 << 36 | seconds * rate
    return (
        b"fLaC"
        + b"\x80\0\0\x22"
        + b"\x10\0\x10\0"
        + bytes(6)
        + packed.to_bytes(8, "big")
        + bytes(16)
        + b"\xff\xf8frames"
    )


def mp3(frames: int, tags: int = 0, told: int | None = None) -> bytes:
    """MPEG 1 layer 3 at 128 kbit/s and 44.1 kHz: 417 bytes and 1,152 samples a frame."""
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    first = (
        frame if told is None else b"\xff\xfb\x90\x00" + bytes(32) + b"Xing" + struct.pack(">II", 1, told) + bytes(369)
    )
    head = b"ID3\x03\0\0" + bytes((0, 0, tags >> 7, tags & 127)) + bytes(tags) if tags else b""
    return head + first + frame * (frames - 1)


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def rows(folder: Path, name: str = "manifest") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def run(tmp_path: Path, data: Path, **options: Any) -> Path:
    return produce("media", MediaStage.parse({"data": str(data), **options}), tmp_path / "out").path


def test_files_of_a_folder_are_paired_and_measured(tmp_path):
    data = put(
        tmp_path / "data",
        {
            "a/cat.png": encoded(scene(1)),
            "a/cat.txt": "一只猫坐在炉火旁边",
            "dog.jpg": encoded(scene(2), "JPEG"),
            "dog.json": json.dumps({"caption": "a dog that sleeps by the furnace"}),
            "song.wav": wav(1.5, channels=2),
            "song.txt": "la la",
            "bird.webp": encoded(scene(3), "WEBP"),
            "lonely.txt": "no file",
        },
    )
    out = run(tmp_path, data)
    found = {row["file"]: row for row in rows(out)}
    assert sorted(found) == ["a/cat.png", "bird.webp", "dog.jpg", "song.wav"]
    assert (found["a/cat.png"]["caption"], found["a/cat.png"]["lang"]) == ("一只猫坐在炉火旁边", "zh")
    assert (found["dog.jpg"]["lang"], found["dog.jpg"]["width"], found["dog.jpg"]["height"]) == ("en", 240, 160)
    assert (found["song.wav"]["seconds"], found["song.wav"]["channels"], found["song.wav"]["kind"]) == (
        1.5,
        2,
        "audio",
    )
    assert found["bird.webp"]["caption"] is None
    assert [(row["file"], row["reason"]) for row in rows(out, "quarantine")] == [
        ("lonely.txt", "caption_without_file")
    ]
    report = json.loads((out / "report.json").read_text())
    assert (report["kept"], report["captioned"], report["languages"]) == (4, 3, {"en": 2, "zh": 1})


def test_tables_name_files_and_may_not_lead_outside(tmp_path):
    table = [
        {"image": "a.png", "text": "one"}, {"image": "../b.png", "text": "x"}, {"image": "none.png"},
        {"image": "a.exe"}, {"other": 1},
    ]  # fmt: skip
    put(tmp_path, {"b.png": encoded(scene(2))})
    data = put(
        tmp_path / "data",
        {"a.png": encoded(scene(1)), "a.exe": b"MZ", "t.jsonl": "".join(json.dumps(r) + "\n" for r in table)},
    )
    out = run(tmp_path, data / "t.jsonl")
    assert [(row["file"], row["caption"]) for row in rows(out)] == [("a.png", "one")]
    assert [(row["line"], row["reason"]) for row in rows(out, "quarantine")] == [
        (2, "outside"), (3, "missing_file"), (4, "unknown_format"), (5, "missing_field"),
    ]  # fmt: skip


def test_tar_shards_give_what_the_same_folder_gives(tmp_path):
    files = {
        "000.txt": b"first", "000.png": encoded(scene(1)), "001.jpg": encoded(scene(2), "JPEG"),
        "001.json": b'{"text": "second"}', "002.png": encoded(scene(3)), "003.wav": wav(1),
    }  # fmt: skip
    put(tmp_path / "folder", files)
    put(tmp_path / "shards", {"s-0.tar": tarred(files)})
    plain = run(tmp_path / "one", tmp_path / "folder")
    packed = run(tmp_path / "two", tmp_path / "shards")
    for row in rows(packed):
        assert row["file"].startswith("s-0.tar/")
    strip = [{**row, "file": row["file"].removeprefix("s-0.tar/")} for row in rows(packed)]
    assert strip == rows(plain)


EDITS = {
    "jpeg": lambda im: Image.open(io.BytesIO(encoded(im, "JPEG", quality=40))),
    "half": lambda im: im.resize((im.width // 2, im.height // 2)),
    "double": lambda im: im.resize((im.width * 2, im.height * 2)),
    "bright": lambda im: ImageEnhance.Brightness(im).enhance(1.08),
    "grey": lambda im: im.convert("L"),
    "crop": lambda im: im.crop((2, 2, im.width - 2, im.height - 2)),
    "webp": lambda im: Image.open(io.BytesIO(encoded(im, "WEBP", quality=60))),
}


def test_pictures_that_look_alike_are_found_and_others_are_not(tmp_path):
    count = 40
    files: dict[str, bytes | str] = {}
    for number in range(count):
        image = scene(number)
        files[f"{number:02d}.png"] = encoded(image)
        for name, edit in EDITS.items():
            files[f"{number:02d}-{name}.png"] = encoded(edit(image))
    out = run(tmp_path, put(tmp_path / "data", files), duplicates="mark")
    by_cluster: dict[str, set[str]] = {}
    for row in rows(out):
        by_cluster.setdefault(row["cluster"], set()).add(row["file"])
    assert all(len({name[:2] for name in names}) == 1 for names in by_cluster.values())  # none is joined wrongly
    found = sum(len(names) - 1 for names in by_cluster.values())
    assert found >= 0.95 * count * len(EDITS)


def test_the_one_that_is_kept_is_captioned_then_large_whatever_the_names(tmp_path):
    image = scene(7, (400, 300))
    small, large = encoded(image.resize((200, 150))), encoded(image)
    data = put(
        tmp_path / "data",
        {"a.png": large, "b.png": small, "b.txt": "said", "c.png": small, "d.png": encoded(scene(8))},
    )
    out = run(tmp_path, data)
    assert sorted(row["file"] for row in rows(out)) == ["b.png", "d.png"]
    assert {(row["file"], row["reason"], row["of"]) for row in rows(out, "dropped")} == {
        ("a.png", "duplicate", "b.png"), ("c.png", "duplicate", "b.png"),
    }  # fmt: skip


def test_a_picture_outside_of_the_limits_does_not_stand_for_its_like(tmp_path):
    image = scene(7, (400, 300))
    data = put(tmp_path / "data", {"a.png": encoded(image), "b.png": encoded(image.resize((200, 150)))})
    out = run(tmp_path, data, max_side=300)
    assert [row["file"] for row in rows(out)] == ["b.png"]
    assert [row["reason"] for row in rows(out, "dropped")] == ["too_large"]


def test_limits_drop_with_their_reasons(tmp_path):
    data = put(
        tmp_path / "data",
        {
            "fine.png": encoded(scene(1)), "tiny.png": encoded(scene(2, (20, 20))),
            "wide.png": encoded(scene(3, (800, 60))), "short.wav": wav(0.05), "long.flac": flac(100),
            "ok.mp3": mp3(100),
        },
    )  # fmt: skip
    out = run(tmp_path, data, max_seconds=50)
    assert {row["file"]: row["reason"] for row in rows(out, "dropped")} == {
        "tiny.png": "too_small", "wide.png": "aspect", "short.wav": "too_short", "long.flac": "too_long",
    }  # fmt: skip
    again = run(tmp_path / "more", put(data, {"fine.txt": "x"}), need_caption=True)
    assert [row["file"] for row in rows(again)] == ["fine.png"]


def bomb(side: int) -> bytes:
    """A PNG of few bytes that says it has side x side points."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


def test_unreadable_files_are_set_aside_and_bombs_are_not_unpacked(tmp_path):
    data = put(
        tmp_path / "data",
        {
            "fine.png": encoded(scene(1)), "empty.jpg": b"", "text.png": "no picture",
            "cut.png": encoded(scene(2))[:900], "cut.jpg": encoded(scene(3), "JPEG")[:1500],
            "bomb.png": bomb(60_000), "small-bomb.png": bomb(11_000),
            "cut.wav": wav(2)[:5000], "text.mp3": "no sound at all", "other.ogg": b"OggS",
            "page.gif": b"%!PS-Adobe-3.0 EPSF",
        },
    )  # fmt: skip
    out = run(tmp_path, data)
    assert [row["file"] for row in rows(out)] == ["fine.png"]
    assert {row["file"]: row["reason"] for row in rows(out, "quarantine")} == {
        "empty.jpg": "empty", "text.png": "not_an_image", "cut.png": "bad_image", "cut.jpg": "bad_image",
        "bomb.png": "too_many_pixels", "small-bomb.png": "too_many_pixels", "cut.wav": "truncated",
        "text.mp3": "not_audio", "other.ogg": "unknown_format", "page.gif": "not_an_image",
    }  # fmt: skip


def test_turned_and_transparent_and_flat_pictures(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = scene(5)
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    data = put(
        tmp_path / "data",
        {
            "turned.jpg": encoded(upright.rotate(90, expand=True), "JPEG", exif=exif, quality=95),
            "upright.png": encoded(upright),
            "clear.png": encoded(clear),
            "flat1.png": encoded(Image.new("RGB", (64, 64), "red")),
            "flat2.png": encoded(Image.new("RGB", (64, 64), "blue")),
        },
    )
    found = {row["file"]: row for row in rows(run(tmp_path, data, duplicates="mark"))}
    assert (found["turned.jpg"]["width"], found["turned.jpg"]["height"]) == (240, 160)
    assert found["turned.jpg"]["cluster"] == found["upright.png"]["cluster"]
    assert len({found[name]["cluster"] for name in ("clear.png", "flat1.png", "flat2.png")}) == 3
    assert found["flat1.png"]["dhash"] is None


@pytest.mark.parametrize(
    ("data", "seconds", "rate", "channels"),
    [
        (wav(2.25, 44100, 2), 2.25, 44100, 2),
        (flac(12), 12.0, 16000, 2),
        (mp3(100), 100 * 1152 / 44100, 44100, 2),
        (mp3(3, tags=300), 3 * 1152 / 44100, 44100, 2),
        (mp3(5, told=1000), 1000 * 1152 / 44100, 44100, 2),
    ],
)
def test_the_length_of_sounds_stands_in_their_headers(data, seconds, rate, channels):
    sound = read_audio(io.BytesIO(data))
    assert sound.seconds == pytest.approx(seconds, abs=0.001)
    assert (sound.rate, sound.channels) == (rate, channels)


@pytest.mark.parametrize("data", [wav(1), flac(3), mp3(4, tags=20), mp3(4, told=9)])
def test_damaged_sounds_never_end_in_another_error(data):
    rng = random.Random(0)
    for _ in range(300):
        hurt = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.5 else data)
        for _ in range(rng.randrange(6)):
            if hurt:
                hurt[rng.randrange(min(len(hurt), 60))] = rng.randrange(256)
        try:
            assert read_audio(io.BytesIO(bytes(hurt))).seconds >= 0
        except Unreadable as error:
            assert error.reason in ("empty", "not_audio", "bad_audio", "truncated")


def test_nothing_to_keep_says_why(tmp_path):
    data = put(tmp_path / "data", {"a.png": encoded(scene(1, (20, 20)))})
    with pytest.raises(LuhuoError, match="No file can be kept") as raised:
        run(tmp_path, data)
    assert "too_small" in str(raised.value)
    with pytest.raises(LuhuoError, match="no images"):
        run(tmp_path, put(tmp_path / "other", {"a.csv.txt": "x"}))
