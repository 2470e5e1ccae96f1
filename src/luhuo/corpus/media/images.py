"""What a picture file holds: format, size in pixels, and what it looks like, as hashes.

Pillow decodes it (extra `data`), from a short list of formats whose decoders run no other program. The size is read
from the header and judged before anything is unpacked.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from luhuo.core.errors import missing_extra
from luhuo.corpus.media.hashes import SIDE, dhash, is_flat, phash

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)
"""Values of the EXIF orientation with which width and height change places."""


class Unreadable(ValueError):
    """A picture or sound that cannot be read. `reason` is the code."""

    def __init__(self, reason: str, message: object = "") -> None:
        self.reason = reason
        super().__init__(str(message))


@dataclass(frozen=True)
class Picture:
    """Width and height as a viewer shows it, in pixels; hashes are None for pictures of one colour."""

    format: str
    width: int
    height: int
    dhash: int | None
    phash: int | None


def read_image(handle: IO[bytes], max_pixels: int) -> Picture:
    """Read one picture (of several, the first). Raises `Unreadable`, and `LuhuoError` without Pillow."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise missing_extra("pillow", "data") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes are judged here, and odd metadata does not matter
        try:
            with Image.open(handle, formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise Unreadable("too_many_pixels", f"{width} x {height}")
                kind = image.format or ""
                image.draft("L", (4 * SIDE, 4 * SIDE))  # JPEG need not be unpacked at its full size
                turned = _orientation(image) in TURNED
                looks = _looks(image)
        except UnidentifiedImageError as error:
            raise Unreadable("not_an_image", error) from error
        except Image.DecompressionBombError as error:
            raise Unreadable("too_many_pixels", error) from error
        except Unreadable:
            raise
        # Pillow's decoders let many kinds of errors out for damaged files.
        except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise Unreadable("bad_image", error) from error
        except (ArithmeticError, AttributeError, RuntimeError, MemoryError) as error:
            raise Unreadable("bad_image", error) from error
    if turned:
        width, height = height, width
    return Picture(kind.lower(), width, height, *looks)


def _orientation(image: Any) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError, TypeError):
        return 1


def _looks(image: Any) -> tuple[int | None, int | None]:
    """(dhash, phash); transparent parts count as white, and the picture as it is shown."""
    from PIL import Image, ImageOps

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        shown = image.convert("RGBA")
        paper = Image.new("RGBA", shown.size, "white")
        image = Image.alpha_composite(paper, shown)
    grey = image.convert("L")
    grey.thumbnail((8 * SIDE, 8 * SIDE), Image.Resampling.BOX)
    if _orientation(image) != 1:
        grey = ImageOps.exif_transpose(grey)
    square = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    if is_flat(square):
        return None, None
    return dhash(np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)), phash(square)
