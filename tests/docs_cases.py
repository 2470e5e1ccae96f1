"""What tests of pages of documentation read: the commands they show, and what a kind of settings says of itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any


def commands(page: Path) -> list[list[str]]:
    """The commands of a page's bash blocks, as words."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def unexplained(*kinds: Any) -> list[str]:
    """Settings without a description in English and in Chinese."""
    return [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, row in kind.model_fields.items()
        if not (row.description and row.json_schema_extra and row.json_schema_extra.get("zh"))
    ]
