"""The filter stage at work: signals and verdicts to decisions, decisions to a corpus.

1. Each unit is decided by its signals alone. Where the best of a cluster of duplicates breaks a rule, the next best
   that breaks none takes its place.
2. Each unit is written: what is kept (repetitions cut out, personal data replaced) and what is dropped, with reasons.
3. What is kept is put in the order of its ids and split by the hash of its cluster, so that neither workers nor the
   order of the input show.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus import privacy
from luhuo.corpus.dedup import Verdict, verdicts
from luhuo.corpus.documents import writer
from luhuo.corpus.factory import records
from luhuo.corpus.factory.arrange import Frames, arrange, buckets_of
from luhuo.corpus.factory.decide import Decider, Reason, named
from luhuo.corpus.factory.executors import Job, Outcome, Unit, run
from luhuo.corpus.factory.watch import Watch
from luhuo.corpus.normalise import normalise
from luhuo.corpus.split import Splitter

if TYPE_CHECKING:
    from luhuo.corpus.factory.stages import FilterStage

EXCERPT = 2_000
"""Characters of a dropped document that are kept beside its reasons; all of it lies in the annotate artifact."""
REPLACED = ("placeholder", "synthetic")
"""What `privacy` says where personal data are replaced."""
HERE = "luhuo.corpus.factory.filter"


def filter_records(stage: FilterStage, out: Workspace) -> None:
    """Write `documents/`, `dropped/`, `report.json` and `privacy.json` (masked).

    Raises `LuhuoError` if nothing is left to train on.
    """
    listed = records.units(stage.annotated)
    units = [Unit(row["name"], row["bytes"], {"source": row["source"]}) for row in listed]
    settings = stage.model_dump(mode="json")
    secret_of(settings)
    options: dict[str, Any] = {"executor": stage.executor, "workers": stage.workers}
    decided = run(Job(f"{HERE}:decide_unit", settings), units, out.path, title="decide", **options)
    promoted = _promoted(out.path, units, {cluster for row in decided for cluster in row["headless"]})
    write_json(out.path / ".work/promoted.json", promoted, indent=None)
    settings["buckets"] = buckets_of(sum(unit.bytes for unit in units))
    told = run(Job(f"{HERE}:write_unit", settings), units, out.path, title="write", note=_Dropped().note, **options)
    splits = arrange(out.path, [unit.name for unit in units], _splitters(told), settings["buckets"], **options)
    audit = privacy.Audit()
    for row in told:
        audit.merge(privacy.Audit.restored(row["audit"]))
    write_json(out.path / "privacy.json", audit.report())
    replaced = {kind: found["spans"] for kind, found in audit.report()["kinds"].items()}
    report = _report(told) | {"replaced": replaced, "splits": splits, "promoted": len(promoted)}
    write_json(out.path / "report.json", report)
    if not splits["train"]["documents"]:
        raise LuhuoError(
            tr("Nothing is left to train on.", "没有留下任何可训练的文本。"),
            found=report["dropped"],
            where=stage.annotated,
            fix=tr("Loosen the rules that drop most.", "请放宽丢弃最多的规则。"),
        )
    for split, counts in splits.items():
        out.results[f"documents.{split}"] = counts["documents"]
        out.results[f"bytes.{split}"] = counts["bytes"]
    out.results["kept"] = report["kept"]
    out.results["read"] = report["read"]


def decide_unit(settings: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the reasons of each record of a unit (`.work/decided/`), and which clusters lost their best."""
    watch.at(0)
    decider = Decider(settings)
    headless = []
    names = [f".work/decided/{unit.name}.jsonl.zst", f".work/spare/{unit.name}.jsonl.zst"]
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_path(folder / name)) for name in names]
        decisions, spares = [stack.enter_context(writer(path, level=1)) for path in paths]
        signals = records.read_signals(settings["annotated"], unit.name)
        for row, verdict in _with_verdicts(signals, settings, unit.name):
            reasons = decider.reasons(row)
            decision: dict[str, Any] = {"reasons": [[reason.code, reason.value] for reason in reasons]}
            if _is_private(settings, row):
                decision["private"] = True
            decisions.write(records.to_line(decision))
            if verdict.kept and reasons:
                headless.append(verdict.cluster)
            if not verdict.kept and not reasons:
                spares.write(records.to_line({"cluster": verdict.cluster, "rank": [-row["chars"], row["id"]]}))
    return Outcome(names, {"headless": sorted(set(headless))})


def _with_verdicts(
    rows: Iterator[dict[str, Any]], settings: dict[str, Any], unit: str
) -> Iterator[tuple[dict[str, Any], Verdict]]:
    """Each row of a unit with its verdict. Raises `LuhuoError` if the verdicts are of other records."""
    if settings["duplicates"] is None:
        for row in rows:
            yield row, Verdict(kept=True, reason=None, cluster=row["id"], of=None, cuts=[])
        return
    found = verdicts(Path(settings["duplicates"]), unit)
    for row in rows:
        verdict = next(found, None)
        if verdict is None:
            raise _misaligned(settings)
        yield row, verdict
    if next(found, None) is not None:
        raise _misaligned(settings)


def _misaligned(settings: dict[str, Any]) -> LuhuoError:
    return LuhuoError(
        tr("The duplicates were found in other records.", "去重结果对应的不是这些记录。"),
        expected=settings["annotated"],
        where=settings["duplicates"],
        fix=tr("Run the deduplicate stage on this annotate artifact.", "请对该 annotate 产物重新运行 deduplicate。"),
    )


def _promoted(folder: Path, units: Sequence[Unit], headless: set[str]) -> dict[str, str]:
    """{cluster: id of the record that takes the place of its best}."""
    best: dict[str, list[Any]] = {}
    if headless:
        for unit in units:
            for row in records.read_lines(folder / f".work/spare/{unit.name}.jsonl.zst"):
                cluster = row["cluster"]
                if cluster in headless and (cluster not in best or row["rank"] < best[cluster]):
                    best[cluster] = row["rank"]
    return {cluster: rank[1] for cluster, rank in sorted(best.items())}


def write_unit(settings: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write what is kept and what is dropped of a unit."""
    watch.at(0)
    promoted = json.loads((folder / ".work/promoted.json").read_text(encoding="utf-8"))
    names = [f".work/kept/{unit.name}.frames", f".work/kept/{unit.name}.json", f"dropped/{unit.name}.jsonl.zst"]
    tally = _Tally()
    splitter = Splitter(settings["valid"], settings["test"], settings["seed"])
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_path(folder / name)) for name in names]
        kept = Frames(stack.enter_context(paths[0].open("wb")), settings["buckets"])
        dropped = stack.enter_context(writer(paths[2], level=records.LEVEL))
        decisions = records.read_lines(folder / f".work/decided/{unit.name}.jsonl.zst")
        texts = records.read_records(settings["annotated"], unit.name)
        for (record, verdict), decision in zip(_with_verdicts(texts, settings, unit.name), decisions, strict=True):
            reasons = [Reason(*pair) for pair in decision["reasons"]] + _repeated(record, verdict, promoted)
            text = record["text"]
            if not reasons:
                text, reasons = _cleaned(settings, record, verdict, decision, tally)
            tally.count(record, text, reasons)
            if reasons:
                dropped.write(records.to_line(_dropped(record, reasons, verdict)))
                continue
            splitter.see(verdict.cluster)
            row = {name: record[name] for name in ("id", "lang", "source", "licence")}
            kept.add(row | {"text": text, "cluster": verdict.cluster})
        kept.flush()
        paths[1].write_text(json.dumps(kept.index), encoding="utf-8")
    return Outcome(names, tally.told() | {"source": unit.payload["source"], "splitter": splitter.state()})


def _splitters(told: Sequence[dict[str, Any]]) -> dict[str, Splitter]:
    """What decides the sides of each source, from what its units have seen."""
    states: dict[str, list[dict[str, Any]]] = {}
    for row in told:
        states.setdefault(row["source"], []).append(row["splitter"])
    return {source: Splitter.of(*seen) for source, seen in states.items()}


def _repeated(record: dict[str, Any], verdict: Verdict, promoted: dict[str, str]) -> list[Reason]:
    """Why a record falls as a duplicate: another of its cluster is kept."""
    if verdict.kept or promoted.get(verdict.cluster) == record["id"]:
        return []
    return [Reason(f"duplicate_{verdict.reason}")]


def _cleaned(
    settings: dict[str, Any], record: dict[str, Any], verdict: Verdict, decision: dict[str, Any], tally: _Tally
) -> tuple[str, list[Reason]]:
    """The text without repeated spans and with personal data replaced; a reason if too little is left."""
    text = without_repeats(record["text"], verdict.cuts)
    tally.cuts.update(reason for *_, reason in verdict.cuts)
    if verdict.cuts and len(text) < settings["min_chars"]:
        return text, [Reason("emptied", len(text))]
    spans = privacy.find(text, record["lang"]) if decision.get("private") else []
    if spans:
        tally.audit.add(text, spans, record["lang"], record["source"])
        text = privacy.replace(text, spans, settings["privacy"], secret_of(settings), lang=record["lang"])
    return text, []


def secret_of(settings: dict[str, Any]) -> str | None:
    """The secret that synthetic values come from; it stands in no file. Raises `LuhuoError` where there is none."""
    if settings["privacy"] != "synthetic":
        return None
    secret = os.environ.get(settings["privacy_key"] or "", "")
    if not secret:
        raise LuhuoError(
            tr("Synthetic values need a secret key.", "合成值需要一个密钥。"),
            expected=tr(
                "privacy_key: the name of an environment variable that holds it", "privacy_key：存放密钥的环境变量名"
            ),
            found=settings["privacy_key"] or None,
            fix="export LUHUO_PRIVACY_KEY=…; privacy_key=LUHUO_PRIVACY_KEY",
        )
    return secret


def without_repeats(text: str, cuts: Sequence[tuple[int, int, str]]) -> str:
    """The text without what repeats other documents."""
    return normalise(_without(text, [(start, end) for start, end, _ in cuts])) if cuts else text


def personal_data(settings: dict[str, Any], text: str, lang: str, signals: dict[str, Any]) -> list[privacy.Span]:
    """What of a text the filter stage replaces; it looks only where the annotate stage has found something."""
    return privacy.find(text, lang) if _is_private(settings, signals) else []


def _is_private(settings: dict[str, Any], signals: dict[str, Any]) -> bool:
    return settings["privacy"] in REPLACED and bool(named(signals, "privacy."))


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without these spans, which may overlap."""
    parts, place = [], 0
    for start, end in sorted(spans):
        parts.append(text[place : max(start, place)])
        place = max(place, end)
    return "".join([*parts, text[place:]])


def _dropped(record: dict[str, Any], reasons: Sequence[Reason], verdict: Verdict) -> dict[str, Any]:
    row = {name: record[name] for name in ("id", "source", "lang", "origin")}
    row["reasons"] = [[reason.code, reason.value] for reason in reasons]
    if reasons[0].code.startswith("duplicate_"):
        row["of"] = verdict.of
    return row | {"chars": len(record["text"]), "text": record["text"][:EXCERPT]}


class _Tally:
    """Counts of a unit, by source, language and reason."""

    def __init__(self) -> None:
        self.rows: Counter[tuple[str, str, str]] = Counter()
        self.bytes: Counter[tuple[str, str, str]] = Counter()
        self.audit = privacy.Audit()
        self.cuts: Counter[str] = Counter()

    def count(self, record: dict[str, Any], text: str, reasons: Sequence[Reason]) -> None:
        """Count a record under its first reason; "" is kept."""
        key = (record["source"], record["lang"], reasons[0].code if reasons else "")
        self.rows[key] += 1
        self.bytes[key] += len(text.encode())

    def told(self) -> dict[str, Any]:
        """Plain values."""
        rows = [[*key, count, self.bytes[key]] for key, count in sorted(self.rows.items())]
        return {"rows": rows, "audit": self.audit.state(), "cuts": dict(sorted(self.cuts.items()))}


class _Dropped:
    """The commonest reasons so far, for whoever waits."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._all = 0

    def note(self, told: dict[str, Any]) -> str:
        """Count the summary of one more unit."""
        for *_, reason, count, _ in told["rows"]:
            self._all += count
            if reason:
                self._reasons[reason] += count
        share = sum(self._reasons.values()) / max(self._all, 1)
        named = ", ".join(f"{reason} {count:,}" for reason, count in self._reasons.most_common(3))
        return tr(f"dropped {share:.1%}", f"丢弃 {share:.1%}") + (f" ({named})" if named else "")


def _report(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the units: {"read", "kept", "dropped": {reason: records}, "sources": {source: {lang: {…}}}, …}."""
    sources: dict[str, Any] = {}
    dropped: Counter[str] = Counter()
    cuts: Counter[str] = Counter()
    read = 0
    for unit in told:
        cuts.update(unit["cuts"])
        for source, lang, reason, count, size in unit["rows"]:
            entry = sources.setdefault(source, {}).setdefault(
                lang, {"read": 0, "bytes": 0, "kept": 0, "kept_bytes": 0}
            )
            read += count
            entry["read"] += count
            entry["bytes"] += size
            if reason:
                dropped[reason] += count
                reasons = entry.setdefault("dropped", {})
                reasons[reason] = reasons.get(reason, 0) + count
            else:
                entry["kept"] += count
                entry["kept_bytes"] += size
    return {
        "read": read,
        "kept": read - sum(dropped.values()),
        "dropped": dict(dropped.most_common()),
        "cut": dict(cuts.most_common()),
        "sources": {source: dict(sorted(entry.items())) for source, entry in sorted(sources.items())},
    }
