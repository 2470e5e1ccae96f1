"""Items through the engine: choice of items and examples, prompts, records, the stages evaluate and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import luhuo
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.documents import documents_path, write_document, writer
from luhuo.evaluation.compare import compare_runs
from luhuo.evaluation.families import Asking, ask, summarise
from luhuo.evaluation.items import choose, choose_shots, plain_prompt, read_items, stop_of
from luhuo.evaluation.stages import CompareStage, EvaluateStage
from luhuo.inference.engine import Engine
from luhuo.model.save import save
from tests.small_chat import small_model


def make_item(
    number: int, family: str = "sums", lang: str = "en", content: str = "", **changes: Any
) -> dict[str, Any]:
    item = {
        "id": f"{family}-{lang}-{number}",
        "family": family,
        "lang": lang,
        "messages": [{"role": "user", "content": content or f"hello {number}"}],
        "answer": str(number),
        "check": {"kind": "number", "value": number},
        "chance": 0.0,
    }
    return item | changes


def write_items(path: Path, items: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return path


@pytest.fixture
def world(tmp_path: Path) -> Path:
    items = [make_item(n, f, lang) for f in ("sums", "facts") for lang in ("en", "zh") for n in range(6)]
    write_items(tmp_path / "world/dialogue/test.jsonl", items)
    write_items(tmp_path / "world/dialogue/train.jsonl", [i | {"id": f"train-{i['id']}"} for i in items])
    return tmp_path / "world"


def test_the_choice_of_items_depends_on_the_seed_and_not_on_their_order() -> None:
    items = [make_item(n, family) for family in ("a", "b") for n in range(50)]
    chosen = choose(iter(items), 10, seed=1)
    assert len(chosen) == 20
    assert [i["id"] for i in choose(iter(items[::-1]), 10, seed=1)] == [i["id"] for i in chosen]
    assert [i["id"] for i in choose(iter(items), 10, seed=2)] != [i["id"] for i in chosen]


def test_few_shot_prompts_are_plain_text_in_the_items_language() -> None:
    shots = [make_item(7), make_item(8)]
    assert plain_prompt(make_item(9), shots) == (
        "Question: hello 7\nAnswer: 7\n\nQuestion: hello 8\nAnswer: 8\n\nQuestion: hello 9\nAnswer:"
    )
    assert plain_prompt(make_item(9, lang="zh", content="几？"), []) == "问题：几？\n回答："
    assert stop_of(shots) == "\n"
    assert stop_of([make_item(1, answer="a\nb")]) == "\n\n"


def test_examples_are_dropped_until_the_prompt_fits_and_the_record_says_how_many_stayed() -> None:
    engine = Engine(small_model(max_positions=64))
    shots = choose_shots(iter([make_item(n) for n in range(20)]), 8, seed=0)
    asking = Asking("completion", 8, shots)
    long = make_item(3, content="how are you " * 40)
    records = list(ask(engine, [make_item(1), long], asking))
    assert 0 < records[0]["shots"] < 8
    assert len(engine.prompt_ids(records[0]["prompt"])) + 8 <= 64
    assert records[1]["shots"] == 0
    assert records[1] | {"reply": "", "correct": False, "parsed": False, "truncated": True} == records[1]


def test_replies_are_the_engines_own_and_do_not_depend_on_the_batch() -> None:
    items = [make_item(n, content="hello world " * (n % 3 + 1)) for n in range(5)]
    one = list(ask(Engine(small_model(), max_batch=1), items, Asking("chat", 6, {})))
    many = list(ask(Engine(small_model(), max_batch=5), items, Asking("chat", 6, {})))
    assert one == many
    direct = Engine(small_model()).chat(items[0]["messages"], luhuo.Sampling(max_tokens=6, temperature=0))
    assert one[0]["reply"] == direct.text.strip()


def test_a_summary_counts_each_family_and_names_those_near_chance() -> None:
    base = {"lang": "en", "parsed": True, "truncated": False, "chance": 0.25}
    records = [base | {"family": "good", "correct": n < 90} for n in range(100)]
    records += [base | {"family": "luck", "correct": n < 26, "parsed": n > 4} for n in range(100)]
    summary = summarise(records, seed=0)
    assert summary["mean"]["accuracy"] == pytest.approx(0.58)
    assert summary["mean"]["low"] < 0.58 < summary["mean"]["high"]
    assert summary["near_chance"] == ["luck"]
    assert summary["families"]["luck"]["unparsed"] == 5
    assert summary["families"]["good"]["langs"]["en"]["n"] == 100


def test_evaluate_writes_scores_items_and_samples_and_compare_reads_them(tmp_path: Path, world: Path) -> None:
    save(small_model(), tmp_path / "model")
    for split in ("train", "valid", "test"):
        with writer(documents_path(tmp_path / "corpus", split)) as handle:
            for lang, text in (("en", "hello world. "), ("zh", "你好，世界。")):
                row = {"id": lang, "text": text * 30, "lang": lang, "source": f"src-{lang}", "licence": "CC0-1.0"}
                write_document(handle, row)
    values = {
        "model": str(tmp_path / "model"),
        "corpus": str(tmp_path / "corpus"),
        "items": str(world / "dialogue/test.jsonl"),
        "shots_from": str(world / "dialogue/train.jsonl"),
        "max_tokens": 4,
        "limit": 4,
        "dtype": "fp32",
    }
    done = produce("evaluate", EvaluateStage.parse(values | {"mode": "completion", "shots": 2}), tmp_path / "base")
    results = done.manifest["metrics"]
    assert {"bpb.en", "bpb.zh", "xz.en", "bpb.source.src-zh", "xz.source.src-zh", "accuracy.mean"} <= set(results)
    assert results["bpb.en"] > 0
    scores = json.loads((done.path / "scores.json").read_text())
    assert scores["accuracy"]["families"]["sums"]["n"] == 4
    assert len((done.path / "items.jsonl").read_text().splitlines()) == 8
    produce("evaluate", EvaluateStage.parse(values), tmp_path / "chat")
    samples = [[json.loads(line)["id"] for line in (tmp_path / d / "samples.jsonl").open()] for d in ("base", "chat")]
    assert samples[0] == samples[1] and samples[0]
    stage = CompareStage.parse({"before": str(tmp_path / "base"), "after": str(tmp_path / "chat")})
    difference = produce("compare", stage, tmp_path / "gain").manifest["metrics"]
    assert difference["difference.mean.low"] <= difference["difference.mean"] <= difference["difference.mean.high"]


def test_the_python_api_gives_the_stages_scores(tmp_path: Path, world: Path) -> None:
    scores = luhuo.evaluate(small_model(), data={"world": world}, limit=2, max_tokens=4)
    assert scores["accuracy"]["mean"]["n"] == 4
    with pytest.raises(LuhuoError, match="wrld"):
        luhuo.evaluate(small_model(), tasks=["wrld"], data={"world": world})


def test_a_gain_is_compared_in_points_with_families_weighed_equally() -> None:
    before = {f"a{n}": ("a", False) for n in range(100)} | {f"b{n}": ("b", False) for n in range(10)}
    after = {f"a{n}": ("a", n < 50) for n in range(100)} | {f"b{n}": ("b", True) for n in range(10)}
    found = compare_runs(before, after)
    assert found["mean"]["difference"] == pytest.approx(75)
    assert found["mean"]["low"] < 75 < found["mean"]["high"]
    assert found["families"]["b"]["p_value"] == pytest.approx(2 / 2**10)
    with pytest.raises(LuhuoError):
        compare_runs(before, {"c": ("c", True)})


def test_bad_items_are_named_by_line_and_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    path = write_items(tmp_path / "items.jsonl", [make_item(1), {"id": "x"}])
    with pytest.raises(LuhuoError) as caught:
        list(read_items(path))
    assert "items.jsonl:2" in str(caught.value) and "family" in str(caught.value)
    with pytest.raises(LuhuoError):
        produce("evaluate", EvaluateStage.parse({"model": str(tmp_path)}), tmp_path / "none")
