"""The request log: one JSON line a request, without what was said unless that is asked for."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from luhuo.serve.lines import json_line


class AccessLog:
    """Writes lines to a file, or to standard error."""

    def __init__(self, file: Path | None, contents: bool) -> None:
        self.contents = contents
        self.always: dict[str, Any] = {}
        """What every line says, besides its own values."""
        self._lock = threading.Lock()
        if file is None:
            self._handle = sys.stderr
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._handle = file.open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        """One line; values that are None are left out."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        line |= {name: value for name, value in (self.always | values).items() if value is not None}
        text = json_line(line)
        with self._lock:
            self._handle.write(text + "\n")
            self._handle.flush()

    def close(self) -> None:
        """Close the file."""
        if self._handle is not sys.stderr:
            self._handle.close()
