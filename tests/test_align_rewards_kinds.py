"""Each kind of reward by itself: what it gives, and when it gives nothing."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from luhuo.align.rewards import CompletionInfo, Rewards, parse_rewards
from luhuo.core.errors import LuhuoError, RunFailed

linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


def rewards(**config: Any) -> Rewards:
    return Rewards(parse_rewards([config]))


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "an-item", "messages": [{"role": "user", "content": text}], **more}


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("The answer is 3/4.", 1, 1),
        (r"So it is \boxed{\frac{3}{4}}", 1, 1),
        ("<answer>75%</answer>", 1, 1),
        ("答案是四分之三。", 1, 1),
        ("#### 0.75", 1, 1),
        ("3 + 0.75 = 3.75, no, wait, 0.75 it is, because I said so and mean it", 0, 1),
        ("The answer is 0.7", 0, 0),
        ("no idea", 0, 0),
        ("<think>0.75", 0, 0),
        ("<answer>0.75</answer><answer>0.5</answer>", 0, 0),
    ],
)
def test_number(text: str, strict: float, lenient: float) -> None:
    scores = rewards(kind="number").score_all([asked("?", answer="3/4")], [text])
    metrics = scores.metrics()
    assert (metrics["reward.number.strict"], metrics["reward.number.lenient"]) == (strict, lenient)


def test_a_gold_answer_that_is_no_number_is_a_failure_and_not_zero() -> None:
    scores = rewards(kind="number").score_all([asked("?", answer="many"), asked("?", answer=1)], ["2", "1"])
    assert scores.totals == [None, 1.0]
    assert scores.failures == {"number": 1}


@linux
def test_math_sees_that_two_forms_are_the_same_and_reads_strictly_and_leniently() -> None:
    pytest.importorskip("math_verify", reason="in the extra `math`")
    cases = [
        (r"x^2+2x+1", r"\boxed{(x+1)^2}", [1.0, 1.0]),
        (r"\frac{1}{2}", "The answer is 0.5", [1.0, 1.0]),
        (r"\sqrt{8}", r"the root is $2\sqrt{2}$ of course", [0.0, 1.0]),
        (r"\{1,2\}", r"\boxed{\{2,1\}}", [1.0, 1.0]),
        ("x+1", r"\boxed{x+2}", [0.0, 0.0]),
        ("七", "答案：7", [1.0, 1.0]),
        ("12", r"\boxed{13}", [0.0, 0.0]),
    ]
    items = [asked("?", answer=gold) for gold, _, _ in cases]
    scores = rewards(kind="math").score_all(items, [text for _, text, _ in cases])
    found = list(zip(scores.parts["math.strict"], scores.parts["math.lenient"], strict=True))
    assert found == [tuple(wanted) for _, _, wanted in cases], scores


@linux
def test_math_in_a_thread_gives_what_it_gives_in_the_main_one() -> None:
    pytest.importorskip("math_verify", reason="in the extra `math`")
    found: list[float | None] = []
    item = asked("?", answer="x+1")
    thread = threading.Thread(target=lambda: found.append(rewards(kind="math").score(item, r"\boxed{1+x}")))
    thread.start()
    thread.join()
    assert found == [1.0]


@linux
def test_math_that_never_ends_cannot_be_scored_and_the_others_can() -> None:
    pytest.importorskip("math_verify", reason="in the extra `math`")
    endless = r"\boxed{x^{9^{9^{9^{9}}}}}"
    items = [asked("?", answer=r"x^2"), asked("?", answer=r"x^2"), asked("?", answer="x^2")]
    scores = rewards(kind="math", seconds=8).score_all(items, [endless, r"\boxed{x \cdot x}", r"\boxed{x}"])
    assert scores.totals[0] in (None, 0.0)
    assert scores.totals[1:] == [1.0, 0.0]


def test_check_is_the_evaluations_strict_one_after_the_reasoning() -> None:
    item = asked("?", check={"kind": "exact", "answers": ["Emil Korton"]})
    reward = rewards(kind="check")
    assert reward.score(item, "<think>Xu Ying? No.</think>Emil Korton.") == 1.0
    scores = reward.score_all([item], ["It was Emil Korton who sold it"])
    assert scores.totals == [0.0]
    assert scores.parts == {"check.strict": [0.0], "check.lenient": [1.0], "check.parsed": [1.0]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        (" <think>a</think>\n<answer>b</answer>\n", 1.0),
        ("<answer>b</answer><think>a</think>", 0.0),
        ("<think>a</think><answer>b</answer><answer>b</answer>", 0.0),
        ("<think></think><answer>b</answer>", 0.0),
        ("<think>a<think>a</think></think><answer>b</answer>", 0.0),
        ("<think>a</think>so<answer>b</answer>", 0.0),
        ("<think>a</think><answer>b", 0.0),
        ("b", 0.0),
    ],
)
def test_format_blocks_stand_in_order_and_once(text: str, value: float) -> None:
    assert rewards(kind="format", tags=["think", "answer"]).score(asked("?"), text) == value


def test_format_knows_the_tag_that_the_prompt_has_opened_and_patterns() -> None:
    opened = rewards(kind="format", tags=["think", "answer"], opened="think")
    assert opened.score(asked("?"), "a</think><answer>b</answer>") == 1.0
    pattern = rewards(kind="format", pattern=r"[A-Z].*\.")
    assert [pattern.score(asked("?"), text) for text in ("One\nTwo.", "one.")] == [1.0, 0.0]
    with pytest.raises(LuhuoError, match="not valid"):
        rewards(kind="format", pattern="(")
    with pytest.raises(LuhuoError, match="not valid"):
        rewards(kind="format")


@pytest.mark.parametrize(
    ("question", "reply", "value"),
    [
        ("谁卖了烤箱？", "是刘香英卖的。", 1.0),
        ("谁卖了烤箱？", "It was sold by her.", 0.0),
        ("Who sold it?", "她卖的。", 0.0),
        ("Who sold it?", "42", 1.0),
        ("谁认识 Emil Korton？", "刘香英认识 Emil Korton。", 1.0),
        ("解方程 x+1=2", "```python\nprint('hello world')\n```\n所以 $x = 1$。", 1.0),
        ("12 + 7", "19", None),
    ],
)
def test_language_follows_the_question_and_leaves_code_formulas_and_names_aside(
    question: str, reply: str, value: float | None
) -> None:
    assert rewards(kind="language").score(asked(question), reply) == value


def test_language_of_the_reasoning_is_a_share_of_its_words() -> None:
    reward = rewards(kind="language", part="reasoning")
    mixed = "<think>先算 then we add 再乘</think>好的"
    assert reward.score(asked("怎么算？"), mixed) == 4 / 7
    strict = rewards(kind="language", part="reasoning", at_least=0.9)
    assert strict.score(asked("怎么算？"), mixed) == 0.0


def test_length_and_overlong_follow_their_formulas() -> None:
    band = rewards(kind="length", low=4, high=8, unit="words")
    assert [band.score(asked("?"), "字" * n) for n in (2, 3, 4, 8, 12, 16)] == [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    soft = rewards(kind="overlong", margin=20)
    infos = [CompletionInfo(tokens, "stop", 100) for tokens in (80, 90, 100, 120)]
    assert soft.score_all([asked("?")] * 4, [""] * 4, infos).totals == [0.0, -0.5, -1.0, -1.0]


def test_repetition_is_minus_the_share_of_repeated_ngrams() -> None:
    reward = rewards(kind="repetition", n=2)
    assert reward.score(asked("?"), "a b c d") == 0.0
    assert reward.score(asked("?"), "a b a b a b") == -(1 - 2 / 5)
    assert reward.score(asked("?"), "好好好好好") == -0.75


def test_schema_wants_the_whole_reply_strictly_and_any_part_leniently() -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}
    reward = rewards(kind="schema", json_schema=schema)
    texts = ['{"age": 3}', '```json\n{"age": 3}\n```', 'Here: {"age": 3}!', '{"age": -1}', "{" * 5000, "[1]"]
    scores = reward.score_all([asked("?")] * 6, texts)
    assert scores.parts["schema.strict"] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert scores.parts["schema.lenient"] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert rewards(kind="schema").score(asked("?", schema=schema), '{"age": 3}') == 1.0
    with pytest.raises(LuhuoError, match="no valid JSON schema"):
        rewards(kind="schema", json_schema={"type": "thing"})


@linux
def test_code_is_tried_on_the_rows_cases() -> None:
    item = asked("?", tests=[{"assert": "assert double(2) == 4"}, {"call": "double", "arguments": [-1], "wanted": -2}])
    right = "Here it is:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
    half = "```python\ndef double(x):\n    return x * x\n```"
    bare = "def double(x): return x + x"
    forged = "```python\nimport os\nprint('2 passed')\nos._exit(0)\n```"
    items = [item] * 5 + [asked("?")]
    texts = [right, half, bare, forged, "", right]
    scores = rewards(kind="code", limits={"seconds": 20}).score_all(items, texts)
    assert scores.components["code"] == [1.0, 0.0, 0.0, 0.0, 0.0, None]
    assert scores.parts["code.lenient"] == [1.0, 0.0, 1.0, 0.0, 0.0]
    partial = rewards(kind="code", partial=True, limits={"seconds": 20})
    assert partial.score(item, half) == 0.5


@linux
def test_cases_that_cannot_be_read_are_a_failure_and_not_zero() -> None:
    scores = rewards(kind="code").score_all([asked("?", tests=[{"what": 1}])], ["```\nx = 1\n```"])
    assert (scores.totals, scores.failures) == ([None], {"code": 1})


FUNCTIONS = """
def words(item, text, info):
    return len(text.split())

def picky(item, text, info):
    if not text: raise ValueError("nothing was said")
    return None if item["id"] == "other" else float(text)

def wrong(item, text, info):
    return "1"

constant = 3
"""


@pytest.fixture
def functions(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS, encoding="utf-8")
    return str(path)


def test_a_function_of_a_file_scores_under_its_own_name(functions: str) -> None:
    scores = rewards(kind="function", file=functions, function="words").score_all([asked("?")], ["one two"])
    assert (scores.totals, scores.components) == ([2.0], {"words": [2.0]})


def test_a_function_that_raises_is_reported_with_its_name_and_an_example(
    functions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = rewards(kind="function", file=functions, function="picky")
    scores = reward.score_all([asked("?"), asked("!")], ["0.0", ""])
    assert scores.totals == [0.0, None]
    assert scores.metrics()["reward.picky.failed"] == 0.5
    assert scores.metrics()["reward"] == 0.0
    told = capsys.readouterr().err
    assert "picky" in told and "nothing was said" in told and "an-item" in told


@pytest.mark.parametrize("name", ["wrong", "picky"])
def test_a_function_that_always_fails_stops_the_run(functions: str, name: str) -> None:
    reward = rewards(kind="function", file=functions, function=name)
    with pytest.raises(RunFailed, match=name):
        reward.score_all([asked("?")] * 8, [""] * 8)


def test_failures_in_small_batches_add_up_until_they_stop_the_run(functions: str) -> None:
    reward = rewards(kind="function", file=functions, function="picky")
    for _ in range(7):
        assert reward.score(asked("?"), "") is None
    with pytest.raises(RunFailed, match="8 times in a row"):
        reward.score(asked("?"), "")


def test_infinite_and_undefined_values_are_failures(functions: str) -> None:
    reward = rewards(kind="function", file=functions, function="picky")
    scores = reward.score_all([asked("?")] * 3, ["inf", "nan", "1"])
    assert scores.totals == [None, None, 1.0]


def test_none_for_a_whole_prompt_leaves_the_other_rewards_and_for_a_part_of_it_no_total(functions: str) -> None:
    both = Rewards(parse_rewards([{"kind": "function", "file": functions, "function": "picky"}, {"kind": "exact"}]))
    other = {**asked("?", answer="5"), "id": "other"}
    assert both.score_all([other, other], ["5", "6"]).totals == [1.0, 0.0]
    source = "def reward(item, text, info): return None if text == 'a' else 1.0"
    Path(functions).write_text(source, encoding="utf-8")
    uneven = rewards(kind="function", file=functions)
    item = asked("?")
    assert uneven.score_all([item, item, asked("!")], ["a", "b", "a"]).totals == [None, 1.0, None]


def test_a_missing_file_or_function_is_named_with_the_nearest_one(functions: str, tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="no function") as caught:
        rewards(kind="function", file=functions, function="word")
    assert "words" in str(caught.value)
    with pytest.raises(LuhuoError):
        rewards(kind="function", file=str(tmp_path / "none.py"))


def test_the_file_is_an_input_so_that_a_change_of_it_runs_the_stage_anew(functions: str) -> None:
    (config,) = parse_rewards([{"kind": "function", "file": functions}])
    assert list(config.inputs()) == [("file", functions)]


class Handler(BaseHTTPRequestHandler):
    """A reward server: the length of each completion; what it is told in `plan` comes first."""

    plan: ClassVar[list[tuple[int, bytes]]] = []
    seen: ClassVar[list[tuple[str | None, Any]]] = []

    def do_POST(self) -> None:  # the name is the library's
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen.append((self.headers.get("Authorization"), body))
        texts = body["completions"]
        answer = json.dumps({"rewards": [len(text) if text else None for text in texts]}).encode()
        status, answer = type(self).plan.pop(0) if type(self).plan else (200, answer)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.plan, Handler.seen = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/score"
        running.shutdown()


def test_a_server_scores_in_batches_with_its_token(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    reward = rewards(kind="http", url=server, batch=2, key_from="MY_TOKEN")
    scores = reward.score_all([asked("?"), asked("!"), asked("…")], ["一二三", "", "ab"])
    assert scores.totals == [3.0, None, 2.0]
    assert [len(body["completions"]) for _, body in Handler.seen] == [2, 1]
    assert {token for token, _ in Handler.seen} == {"Bearer secret"}
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(LuhuoError, match="token"):
        rewards(kind="http", url=server, key_from="MY_TOKEN")


def test_a_busy_server_is_asked_again(server: str) -> None:
    Handler.plan = [(503, b""), (429, b"")]
    assert rewards(kind="http", url=server).score(asked("?"), "abc") == 3.0


@pytest.mark.parametrize(
    "answer", [(200, b"no json"), (200, b'{"rewards": [1, 2]}'), (200, b"[]"), (400, b""), (302, b"")]
)
def test_a_server_that_answers_badly_is_a_failure(server: str, answer: tuple[int, bytes]) -> None:
    Handler.plan = [answer]
    scores = rewards(kind="http", url=server).score_all([asked("?")], ["abc"])
    assert (scores.totals, scores.failures) == ([None], {"http": 1})
    assert len(Handler.seen) == 1


def test_a_server_that_is_not_there_stops_the_run() -> None:
    reward = rewards(kind="http", url="http://127.0.0.1:9/score", tries=1)
    with pytest.raises(RunFailed, match="http"):
        reward.score_all([asked("?")] * 8, ["abc"] * 8)
