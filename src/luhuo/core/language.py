"""The language of messages: English or Chinese, chosen by `LUHUO_LANG` or the locale."""

from __future__ import annotations

import os

LANGUAGES = ("en", "zh")


def language() -> str:
    """Return "en" or "zh": `LUHUO_LANG` first, then the locale variables, English otherwise."""
    for name in ("LUHUO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "").lower()
        if value:
            return "zh" if value.startswith(("zh", "cmn")) else "en"
    return "en"


def tr(english: str, chinese: str) -> str:
    """Return the text in the user's language. Both versions stand side by side where they are used."""
    return chinese if language() == "zh" else english
