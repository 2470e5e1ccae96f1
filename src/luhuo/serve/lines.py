"""JSON on one line, whatever program cuts the text into lines."""

from __future__ import annotations

import json
from typing import Any

BREAKS = str.maketrans({0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"})
"""Characters that JSON allows in a text and that some programs take for the end of a line."""


def json_line(value: Any) -> str:
    """Compact JSON, Chinese readable, without any kind of line break."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).translate(BREAKS)
