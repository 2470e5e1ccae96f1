"""Which records are kept: limits on signals, languages, benchmark items. Only signals are read for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luhuo.corpus import rules


@dataclass(frozen=True)
class Reason:
    """Why a record is dropped: a code, and the value that broke the limit where there is one."""

    code: str
    value: float | str | None = None


class Decider:
    """Applies the rules of each language. The first reason that is found is the one that counts; all are told."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._rules: dict[str, list[rules.Rule]] = {}

    def reasons(self, signals: Mapping[str, Any]) -> list[Reason]:
        """Every reason to drop the record, in the order of the rules; empty if it is kept."""
        found = []
        lang, wanted = signals["lang"], self._settings
        if wanted["languages"] is not None and lang not in wanted["languages"]:
            found.append(Reason("language", lang))
        if lang == "zh" and wanted["scripts"] is not None and signals["script"] not in wanted["scripts"]:
            found.append(Reason("script", signals["script"]))
        if signals["chars"] < wanted["min_chars"]:
            found.append(Reason("too_short", signals["chars"]))
        if wanted["leaks"] == "drop":
            found += [Reason("benchmark", name) for name in named(signals, "benchmark.")]
        if wanted["privacy"] == "drop":
            found += [Reason("privacy", name) for name in named(signals, "privacy.")]
        for rule in self.rules_of(lang):
            value = signals.get(rule.signal)
            if value is not None and not rule.holds(value):
                found.append(Reason(rule.reason, value))
        return found

    def rules_of(self, lang: str) -> list[rules.Rule]:
        """The rules of a language with the limits of the configuration over those that come with Luhuo.

        A limit on a signal that only flags makes it a rule.
        """
        if lang not in self._rules:
            standard = rules.load(lang)
            table = dict(standard) if self._settings["standard"] else {}
            for signal, limits in self._settings["rules"].get(lang, {}).items():
                table.pop(signal, None)
                known = standard.get(signal) or rules.flags(lang).get(signal)
                if limits is not None:
                    named = known or rules.Rule(signal, None, None, signal.replace(".", "_"), "", "")
                    table[signal] = dataclasses.replace(named, min=limits["min"], max=limits["max"])
            self._rules[lang] = list(table.values())
        return self._rules[lang]


def named(signals: Mapping[str, Any], family: str) -> list[str]:
    """Names of the signals of a family that is only told where something was found ("benchmark.", "privacy.")."""
    return [name.removeprefix(family) for name in signals if name.startswith(family)]
