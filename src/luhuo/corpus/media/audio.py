"""What an audio file holds, by its headers alone: WAV (RIFF, RF64), FLAC and MP3. Nothing is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

from luhuo.corpus.media.images import Unreadable

CHUNKS = 1000
"""Chunks of a RIFF file that are looked at."""
SEARCHED = 2**16
"""Bytes behind the tags of an MP3 in which its first frame is looked for."""
CODECS = {1: "pcm", 3: "float", 6: "alaw", 7: "ulaw", 0x11: "adpcm", 0x55: "mp3", 0xFFFE: "pcm"}

RATES = (44100, 48000, 32000)
"""Sampling rates of MPEG 1; MPEG 2 has halves, MPEG 2.5 quarters (ISO 11172-3, 13818-3)."""
BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by (MPEG 1 or 2, layer)."""


@dataclass(frozen=True)
class Sound:
    """`seconds` of sound, samples a second, channels."""

    codec: str
    seconds: float
    rate: int
    channels: int


def read_audio(handle: IO[bytes]) -> Sound:
    """Read the headers. Raises `Unreadable`: "not_audio", "bad_audio", "truncated"."""
    handle.seek(0, 2)
    size = handle.tell()
    handle.seek(0)
    mark = handle.read(4)
    handle.seek(0)
    try:
        if mark in (b"RIFF", b"RF64"):
            return _wav(handle, size)
        if mark == b"fLaC":
            return _flac(handle, size)
        if mark[:3] == b"ID3" or (len(mark) > 1 and mark[0] == 0xFF and mark[1] & 0xE0 == 0xE0):
            return _mp3(handle, size)
    except (struct.error, ZeroDivisionError, IndexError) as error:
        raise Unreadable("bad_audio", error) from error
    raise Unreadable("empty" if not size else "not_audio", mark)


def _wav(handle: IO[bytes], size: int) -> Sound:
    """Chunks of a RIFF file: `fmt ` says what the bytes of `data` are."""
    handle.seek(8)
    if handle.read(4) != b"WAVE":
        raise Unreadable("not_audio", "RIFF without WAVE")
    form: tuple[int, int, int, int] | None = None
    long = 0
    for _ in range(CHUNKS):
        head = handle.read(8)
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        start = handle.tell()
        if name == b"ds64":
            long = struct.unpack("<8xQ", handle.read(16))[0]
        elif name == b"fmt ":
            tag, channels, rate, byte_rate = struct.unpack("<HHII", handle.read(12))
            form = (tag, channels, rate, byte_rate)
        elif name == b"data":
            length = long if length == 0xFFFFFFFF and long else length
            if form is None or not form[1] or not form[2]:
                raise Unreadable("bad_audio", "no format before the data")
            if start + length > size:
                raise Unreadable("truncated", f"{length} bytes announced, {size - start} there")
            tag, channels, rate, byte_rate = form
            return Sound(CODECS.get(tag, f"wav-{tag}"), round(length / byte_rate, 3), rate, channels)
        handle.seek(start + length + length % 2)
    raise Unreadable("truncated", "no data chunk")


def _flac(handle: IO[bytes], size: int) -> Sound:
    """STREAMINFO, the first block of metadata (RFC 9639, section 8.2)."""
    handle.seek(4)
    head = handle.read(4 + 34)
    if len(head) < 38 or head[0] & 0x7F != 0:
        raise Unreadable("bad_audio", "no STREAMINFO")
    packed = int.from_bytes(head[14:22], "big")  # 20 bits rate, 3 channels - 1, 5 bits depth - 1, 36 samples
    rate, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    if not rate:
        raise Unreadable("bad_audio", "no sampling rate")
    if size <= 42:
        raise Unreadable("truncated", "no frames")
    return Sound("flac", round(samples / rate, 3), rate, channels)


@dataclass(frozen=True)
class _Frame:
    """What the four bytes at the beginning of an MPEG frame say."""

    size: int
    samples: int
    rate: int
    channels: int
    layer: int
    version: int


def _frame(head: bytes) -> _Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version = {3: 1, 2: 2, 0: 4}.get(head[1] >> 3 & 3)  # 4: MPEG 2.5, a quarter of the rates
    layer = 4 - (head[1] >> 1 & 3)
    bits, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version is None or layer == 4 or bits in (0, 15) or rate_index == 3:
        return None
    rate = RATES[rate_index] // version
    bitrate = BITRATES[(1 if version == 1 else 2, layer)][bits - 1] * 1000
    samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
    size = (12 * bitrate // rate + padding) * 4 if layer == 1 else samples // 8 * bitrate // rate + padding
    return _Frame(size, samples, rate, 1 if head[3] >> 6 == 3 else 2, layer, version)


def _mp3(handle: IO[bytes], size: int) -> Sound:
    """The length that an encoder wrote into the first frame (Xing, Info, VBRI), else the frames counted."""
    place = 0
    head = handle.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        tags = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place = 10 + tags + (10 if head[5] & 0x10 else 0)
    handle.seek(place)
    block = handle.read(SEARCHED)
    for offset in range(max(0, len(block) - 3)):
        first = _frame(block[offset : offset + 4]) if block[offset] == 0xFF else None
        if first is not None:
            follows = block[offset + first.size : offset + first.size + 4]
            if _frame(follows) or len(follows) < 4:
                break
    else:
        raise Unreadable("bad_audio", "no MPEG frame")
    codec = f"mp{first.layer}"
    told = _told_frames(block[offset : offset + first.size])
    if told:
        return Sound(codec, round(told * first.samples / first.rate, 3), first.rate, first.channels)
    frames, place = 0, place + offset
    while place < size:
        handle.seek(place)
        frame = _frame(handle.read(4))
        if frame is None:
            break
        if place + frame.size > size and not frames:
            raise Unreadable("truncated", "the first frame is not whole")
        frames, place = frames + 1, place + frame.size
    return Sound(codec, round(frames * first.samples / first.rate, 3), first.rate, first.channels)


def _told_frames(frame: bytes) -> int:
    """The number of frames in a header frame; 0 where there is none."""
    for mark in (b"Xing", b"Info"):
        at = frame.find(mark, 4, 64)
        if at >= 0 and len(frame) >= at + 12 and struct.unpack(">I", frame[at + 4 : at + 8])[0] & 1:
            return struct.unpack(">I", frame[at + 8 : at + 12])[0]
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return struct.unpack(">I", frame[50:54])[0]
    return 0
