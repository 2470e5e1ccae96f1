"""Raw text to a clean corpus: nothing lost without a reason, equal bytes however the work was done."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus import signals
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.documents import SPLITS, read_documents
from luhuo.corpus.factory import annotate, arrange, plan, reading, records
from luhuo.corpus.factory.executors import Job, Outcome, Unit, run
from luhuo.corpus.factory.stages import AnnotateStage, FilterStage
from luhuo.corpus.factory.watch import Watch
from luhuo.files.references import resolve

ENGLISH = (
    "The old mill stood at the end of the village, where the road turned to the river. Every morning the miller "
    "opened the gate, and the water began to move the heavy wheel. Number {} of the bags was for the baker, who "
    "came with a small cart and a grey horse. He paid with three coins and a loaf of bread, and they talked about "
    "the weather until the sun was above the trees. In the evening the wheel stopped, and it was quiet again."
)
CHINESE = (
    "老磨坊在村子的尽头，那里的路转向河边。每天早上，磨坊主打开闸门，水就推动沉重的轮子。第{}袋面粉是给面包师的，"
    "他赶着一辆小车和一匹灰马来。他付了三个铜板和一个面包，他们一直聊天气，直到太阳升到树梢。到了晚上，轮子停了下来，四周又安静了。"
)
SIZES: dict[str, float] = {}
"""Settings of annotate that a fixture makes small."""
JUNK = "BUY NOW!!! CLICK HERE $$$ " * 12


def rows(count: int = 60) -> list[dict[str, Any]]:
    """Documents in two languages, some of them bad."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        found.append({"text": ENGLISH.format(number), "lang": "en"})
        found.append({"text": CHINESE.format(number)})
        if number % 10 == 0:
            found.append({"text": JUNK + str(number)})
            found.append({"text": f"{ENGLISH.format(1000 + number)} Write to miller{number}@example.org today."})
    return found


def write(path: Path, documents: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in documents), encoding="utf-8")
    return path


def annotated(root: Path, source: Path, name: str = "annotated", **settings: Any) -> Path:
    values = {"sources": [{"name": "village", "path": str(source), "licence": "CC0-1.0"}], "executor": "inline"}
    return produce("annotate", AnnotateStage.parse(values | SIZES | settings), root / name).path


def filtered(root: Path, source: Path, name: str = "clean", **settings: Any) -> Path:
    values = {"annotated": str(source), "executor": "inline", "valid": 0.1, "test": 0.1}
    return produce("filter", FilterStage.parse(values | settings), root / name).path


def payload(folder: Path) -> dict[str, bytes]:
    """The bytes of the corpus: documents and what is said of them."""
    files = [*folder.glob("documents/*"), folder / "report.json"]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units and buckets so small that a little file has many."""
    monkeypatch.setitem(SIZES, "unit_mb", 0.004)
    monkeypatch.setattr(arrange, "BUCKET_BYTES", 9_000)


def test_every_record_is_kept_or_dropped_for_a_reason_or_in_quarantine(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", rows())
    with raw.open("a") as handle:
        handle.write('{"text": 3}\nno json\n{"text": "  "}\n')
    first = annotated(tmp_path, raw)
    clean = filtered(tmp_path, first)
    report = json.loads((clean / "report.json").read_text())
    reasons = [row["reason"] for row in map(json.loads, next(first.glob("quarantine/*")).open())]
    assert sorted(reasons) == ["bad_json", "empty", "not_text"]
    documents = [row for split in SPLITS for row in read_documents(clean, split)]
    dropped = [
        row for unit in records.units(first) for row in records.read_lines(clean / f"dropped/{unit['name']}.jsonl.zst")
    ]
    assert len(documents) == report["kept"]
    assert len(documents) + len(dropped) == report["read"] == len(rows())
    assert {row["text"][:3] for row in dropped} == {"BUY"}
    assert all(row["reasons"] and row["origin"]["file"] == "raw.jsonl" for row in dropped)


def test_documents_carry_language_source_and_licence_and_no_personal_data(tmp_path: Path) -> None:
    clean = filtered(tmp_path, annotated(tmp_path, write(tmp_path / "raw.jsonl", rows())))
    documents = [row for split in SPLITS for row in read_documents(clean, split)]
    assert {(row["lang"], row["source"], row["licence"]) for row in documents} == {
        ("en", "village", "CC0-1.0"),
        ("zh", "village", "CC0-1.0"),
    }
    written = [row["text"] for row in documents if "Write to" in row["text"]]
    assert len(written) == 6 and not any("miller0@" in text or "example.org" in text for text in written)
    assert json.loads((clean / "report.json").read_text())["replaced"] == {"email": 6}
    audit = (clean / "privacy.json").read_text()
    assert json.loads(audit)["kinds"]["email"]["spans"] == 6 and "example.org" not in audit


def test_synthetic_values_come_out_of_a_secret_that_stands_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = annotated(tmp_path, write(tmp_path / "raw.jsonl", rows()))
    with pytest.raises(LuhuoError, match="secret"):
        filtered(tmp_path, first, "none", privacy="synthetic")
    found = []
    for secret in ("one secret", "another secret"):
        monkeypatch.setenv("THE_KEY", secret)
        clean = filtered(tmp_path, first, secret.split()[0], privacy="synthetic", privacy_key="THE_KEY")
        texts = [row["text"] for split in SPLITS for row in read_documents(clean, split)]
        found.append(sorted(text for text in texts if "Write to" in text))
        assert not any(secret.encode() in file.read_bytes() for file in clean.rglob("*") if file.is_file())
    assert found[0] != found[1] and all("@" in text and "miller0@" not in text for text in found[0] + found[1])


def test_another_order_and_another_number_of_workers_give_the_same_bytes(tmp_path: Path, small_units: None) -> None:
    documents = rows()
    straight = filtered(tmp_path, annotated(tmp_path, write(tmp_path / "a/raw.jsonl", documents)))
    assert len(records.units(tmp_path / "annotated")) > 5
    for workers in (1, 2, 4):
        random.Random(workers).shuffle(documents)
        source = write(tmp_path / f"{workers}/raw.jsonl", documents)
        many: dict[str, Any] = {"executor": "process", "workers": workers}
        first = annotated(tmp_path, source, f"annotated-{workers}", **many)
        assert payload(filtered(tmp_path, first, f"clean-{workers}", **many)) == payload(straight)


def test_on_ray_the_bytes_are_the_same(tmp_path: Path, small_units: None) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not part of the test environment")
    raw = write(tmp_path / "raw.jsonl", rows())
    found = []
    for executor in ("inline", "ray"):
        many: dict[str, Any] = {"executor": executor, "workers": 2}
        first = annotated(tmp_path, raw, f"annotated-{executor}", **many)
        twins = DeduplicateStage.parse({"annotated": str(first), **many})
        second = produce("deduplicate", twins, tmp_path / f"twins-{executor}").path
        found.append(payload(filtered(tmp_path, first, f"clean-{executor}", duplicates=str(second), **many)))
    assert found[0] == found[1]


def test_documents_come_in_the_order_of_their_ids_whatever_the_buckets(
    tmp_path: Path, small_units: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = annotated(tmp_path, write(tmp_path / "raw.jsonl", rows()))
    many = filtered(tmp_path, first, "many")
    monkeypatch.setattr(arrange, "BUCKET_BYTES", 10**9)
    one = filtered(tmp_path, first, "one")
    for split in SPLITS:
        found = list(read_documents(many, split))
        assert found == list(read_documents(one, split))
        assert [row["id"] for row in found] == sorted(row["id"] for row in found)


def test_thresholds_change_without_measuring_again(tmp_path: Path) -> None:
    first = annotated(tmp_path, write(tmp_path / "raw.jsonl", rows()))
    before = {file: file.stat().st_mtime_ns for file in first.rglob("*")}
    strict = filtered(tmp_path, first, "strict", rules={"zh": {"gopher.words": None}, "en": {"chars": {"max": 450}}})
    report = json.loads((strict / "report.json").read_text())
    assert report["dropped"]["chars"] > 0
    assert {file: file.stat().st_mtime_ns for file in first.rglob("*")} == before


def test_only_the_languages_asked_for_are_kept(tmp_path: Path) -> None:
    first = annotated(tmp_path, write(tmp_path / "raw.jsonl", rows()))
    clean = filtered(tmp_path, first, languages=["zh"])
    assert {row["lang"] for row in read_documents(clean, "train")} == {"zh"}
    assert json.loads((clean / "report.json").read_text())["dropped"]["language"] > 60


def test_a_share_is_the_same_sample_in_any_order(tmp_path: Path) -> None:
    documents = rows()
    found = []
    for order in (0, 1):
        random.Random(order).shuffle(documents)
        source = {"name": "village", "path": str(write(tmp_path / f"{order}/raw.jsonl", documents)), "share": 0.5}
        folder = annotated(tmp_path, Path(source["path"]), f"annotated-{order}", sources=[source])
        found.append(
            {row["id"] for unit in records.units(folder) for row in records.read_records(folder, unit["name"])}
        )
    assert found[0] == found[1]
    assert 40 < len(found[0]) < 90


def test_a_long_document_is_divided_at_paragraphs(tmp_path: Path) -> None:
    text = "\n\n".join(ENGLISH.format(number) for number in range(40))
    source = {"name": "long", "path": str(write(tmp_path / "raw.jsonl", [{"text": text}])), "max_chars": 3000}
    folder = annotated(tmp_path, Path(), sources=[source])
    found = list(records.read_records(folder, "long-00000"))
    assert [row["origin"]["part"] for row in found] == list(range(len(found)))
    assert max(len(row["text"]) for row in found) <= 3000
    assert "".join("".join(row["text"].split()) for row in found) == "".join(text.split())


def test_lines_of_a_large_file_are_divided_among_units_without_loss(tmp_path: Path, small_units: None) -> None:
    documents = rows()
    raw = write(tmp_path / "raw.jsonl", documents)
    folder = annotated(tmp_path, raw)
    texts = [row["text"] for unit in records.units(folder) for row in records.read_records(folder, unit["name"])]
    assert texts == [row["text"].strip() for row in documents]


def test_it_opens_no_socket(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", rows(12))
    program = f"""
import sys
def refuse(event, _):
    if event.startswith("socket."):
        raise RuntimeError(event)
sys.addaudithook(refuse)
from pathlib import Path
from tests.test_corpus_factory import annotated, filtered
filtered(Path({str(tmp_path)!r}), annotated(Path({str(tmp_path)!r}), Path({str(raw)!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_source_without_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="gives no text") as error:
        annotated(tmp_path, write(tmp_path / "raw.jsonl", [{"content": "x"}]))
    assert "missing_field" in str(error.value)


def test_a_corpus_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    first = annotated(tmp_path, write(tmp_path / "raw.jsonl", [{"text": JUNK}]))
    with pytest.raises(LuhuoError, match="Nothing is left"):
        filtered(tmp_path, first)


def test_a_damaged_intermediate_file_is_noticed(tmp_path: Path) -> None:
    first = annotated(tmp_path, write(tmp_path / "raw.jsonl", rows(5)))
    file = next(first.glob("records/*"))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(LuhuoError):
        filtered(tmp_path, first)


KILLED = """
import sys
from pathlib import Path
from luhuo.corpus.factory import arrange
from tests.test_corpus_factory import SIZES, annotated, filtered
arrange.BUCKET_BYTES = 9_000
SIZES["unit_mb"] = 0.004
root = Path(sys.argv[1])
filtered(root, annotated(root, root / "raw.jsonl", executor=sys.argv[2], workers=2), executor=sys.argv[2], workers=2)
"""


@pytest.mark.parametrize("executor", ["inline", pytest.param("process", marks=pytest.mark.slow)])
def test_killed_at_random_points_it_goes_on_to_the_same_bytes(
    tmp_path: Path, small_units: None, executor: str
) -> None:
    documents = rows()
    for root in ("whole", "killed"):
        write(tmp_path / root / "raw.jsonl", documents)
    whole = filtered(tmp_path / "whole", annotated(tmp_path / "whole", tmp_path / "whole/raw.jsonl"))
    rng = random.Random(7)
    kills = 0
    for _ in range(30):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "killed"), executor])
        try:
            process.wait(timeout=rng.uniform(0.2, 1.6))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            time.sleep(0.05)
    assert kills
    clean = filtered(tmp_path / "killed", annotated(tmp_path / "killed", tmp_path / "killed/raw.jsonl"))
    assert payload(clean) == payload(whole)


@pytest.mark.slow
@pytest.mark.parametrize("line", [ENGLISH, CHINESE])
def test_a_document_of_50_megabytes_takes_little_memory(tmp_path: Path, line: str) -> None:
    count = 50_000_000 // len(line.encode()) + 1
    write(tmp_path / "raw.jsonl", [{"text": " ".join(line.format(number) for number in range(count))}])
    program = f"""
import resource
from pathlib import Path
from tests.test_corpus_factory import annotated, filtered
root = Path({str(tmp_path)!r})
filtered(root, annotated(root, root / "raw.jsonl"), standard=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1500


def deadly(settings: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """annotate_unit with signals that die of one document and never end with another."""
    measure = signals.measure

    def measured(texts: Sequence[str], *rest: Any) -> Any:
        if any("Number 7 of" in text for text in texts):
            os.kill(os.getpid(), 9)
        if any("第9袋" in text for text in texts):
            time.sleep(60)
        return measure(texts, *rest)

    signals.measure = measured
    return annotate.annotate_unit(settings, unit, folder, watch)


def test_documents_that_end_or_block_their_worker_are_in_quarantine_and_all_others_kept(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", rows(12))
    source = {"name": "village", "path": str(raw)}
    stage = AnnotateStage.parse({"sources": [source]})
    units = plan.plan(stage.sources, [resolve(str(raw))], 10**6)
    job = Job(f"{__name__}:deadly", stage.model_dump(mode="json"))
    told = run(job, units, tmp_path / "out", title="annotate", workers=1, record_s=3)
    bad = [json.loads(line) for line in (tmp_path / "out/quarantine/village-00000.jsonl").open()]
    assert {row["reason"] for row in bad} == {"worker_ended"}
    assert sorted("Number 7 of" in row["excerpt"] for row in bad) == [False, True]
    assert told[0]["records"] == len(rows(12)) - 2


def fragile(settings: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """annotate_unit with a reader that dies of one file and never ends with another."""
    read = reading.read_file

    def watched(file: Path, **options: Any) -> Any:
        if file.name == "0-deadly.jsonl":
            os.kill(os.getpid(), 9)
        if file.name == "2-endless.jsonl":
            time.sleep(60)
        yield from read(file, **options)

    reading.read_file = watched
    return annotate.annotate_unit(settings, unit, folder, watch)


def test_files_that_end_or_block_their_reader_are_in_quarantine_and_all_others_kept(tmp_path: Path) -> None:
    for name in ("0-deadly", "1-good", "2-endless", "3-good"):
        write(tmp_path / f"raw/{name}.jsonl", rows(2))
    source = {"name": "village", "path": str(tmp_path / "raw")}
    stage = AnnotateStage.parse({"sources": [source]})
    units = plan.plan(stage.sources, [resolve(source["path"])], 10**6)
    job = Job(f"{__name__}:fragile", stage.model_dump(mode="json"))
    told = run(job, units, tmp_path / "out", title="annotate", workers=1, record_s=3)
    bad = [json.loads(line) for line in (tmp_path / "out/quarantine/village-00000.jsonl").open()]
    assert [(row["reason"], row["file"]) for row in bad] == [
        ("reader_ended", "0-deadly.jsonl"),
        ("reader_ended", "2-endless.jsonl"),
    ]
    assert told[0]["records"] == 2 * len(rows(2))
