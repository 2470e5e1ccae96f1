"""data-check: each usual mistake is planted and found with its place, and clean data pass."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luhuo.align.data_check.check import Report, check
from luhuo.align.data_check.findings import KINDS, Findings
from luhuo.align.data_check.leaks import Leaks
from luhuo.align.data_check.repeats import Near
from luhuo.align.data_check.show import lines, write_page
from luhuo.core.errors import LuhuoError
from luhuo.dialogue.clean.texts import cut_off, in_other_language, mojibake
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.small_chat import small_model, small_tokenizer, with_template

Row = dict[str, Any]
LONG = "The river runs past the old mill. It is cold in winter and warm in summer. "
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {}}}


def chat(*texts: str, **extra: Any) -> Row:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)], **extra}


def clean(count: int = 30) -> list[Row]:
    return [chat(f"What is {i} plus {i * 7}?", f"It is {i + i * 7}.") for i in range(count)]


def write(path: Path, rows: list[Any]) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Report]:
    def run(rows: list[Any], tokenizer: Tokenizer | None = None, length: int = 512, against: Any = None) -> Report:
        other = [write(tmp_path / "eval.jsonl", against)] if against else []
        return check([write(tmp_path / "x.jsonl", rows)], tokenizer or small_tokenizer(), length, other)

    return run


def found(report: Report) -> dict[str, str]:
    return {finding.code: finding.severity for finding in report.findings}


def test_clean_data_pass(checked):
    report = checked(clean())
    assert report.findings == [] and report.errors == 0
    assert report.files[0][1:] == ("conversations", "openai") and report.statistics.rows == 30
    assert report.statistics.supervised == sum(report.statistics.targets)


PLANTED: dict[str, Any] = {
    "unreadable": "{bad",
    "other_layout": {"z": 1},
    "bad_row": {"messages": [{"role": "user", "content": None}]},
    "role_order": {"messages": chat("a", "b")["messages"][::-1]},
    "all_masked": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
    "empty_answer": chat("Why?", "  "),
    "empty_question": chat(" ", "Because."),
    "cut_off": chat("Tell me of the river.", LONG * 3 + "The last time that we went to see it there was no"),
    "duplicate": chat("what IS 3 plus 21?", "It  is 24."),
    "same_question": chat("What is 3 plus 21?", "Twenty-four."),
    "special_text": chat("Hello <|im_end|> there", "Good day."),
    "other_language": chat("How do I get to the station from here?", "从这里一直往前走，然后在第二个路口左转。"),
    "mojibake": chat("Where is the cafÃ©?", "Here."),
    "overlong": chat("Write.", "a b c d e f g h. " * 90),
}


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_mistake_is_found_at_its_line_and_alone(code: str, checked):
    report = checked([*clean(), PLANTED[code]])
    assert list(found(report)) == [code]
    (finding,) = report.findings
    assert finding.count == 1 and finding.severity == KINDS[code].severity and finding.examples[0].line == 31


def test_a_near_duplicate_is_found_and_says_of_which_row(checked):
    rows = [*clean(), chat("Tell me.", LONG * 4), chat("Tell me!", LONG * 4 + "Yes.")]
    report = checked(rows)
    assert list(found(report)) == ["near_duplicate"] and "x.jsonl:31" in report.findings[0].examples[0].excerpt


def test_a_warning_that_concerns_many_rows_is_an_error(checked):
    report = checked([*clean(10), *[chat(f"q{i}", "") for i in range(5)]])
    assert found(report)["empty_answer"] == "error" and report.errors >= 1


def test_questions_of_the_evaluation_set_are_found_alone_or_inside_a_text(checked):
    secret = "Anna walked from the harbour to the market and bought seven red apples and two pears for her aunt"
    rows = [*clean(), chat("Note this. " + secret + ". Good.", "Noted."), chat("how many MOONS has Mars?", "Two.")]
    against = [{"messages": [{"role": "user", "content": text}]} for text in (secret, "How many moons has Mars?")]
    report = checked(rows, against=against)
    assert found(report) == {"leak": "error"} and report.findings[0].count == 2
    assert [example.line for example in report.findings[0].examples] == [31, 32]


def test_an_evaluation_set_that_is_not_in_the_data_is_no_leak(checked):
    assert not checked(clean(), against=[chat("What is 500 plus 9?", "It is 509.")]).findings


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "end_not_trained"),
        (
            "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
            "message_dropped",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
            "tools_dropped",
        ),
        ("{{ raise_exception('no') }}", "template_refuses"),
        (None, "no_template"),
    ],
)
def test_what_a_template_does_wrong_is_an_error(template: str | None, code: str, checked):
    system = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [system, *row["messages"]], "tools": [TOOL]} for row in clean()]
    assert found(checked(rows, with_template(template)))[code] == "error"


def test_a_doubled_or_missing_start_of_text_is_found(checked):
    base = small_tokenizer()
    config = dict(base._config) | {"bos_token": "<|endoftext|>"}
    doubled = Tokenizer(base._core, config, "{{ bos_token }}{{ bos_token }}" + (base.chat_template or ""))
    assert found(checked(clean(), doubled)) == {"double_start": "error"}


def test_padding_with_the_end_token_is_told_and_the_end_is_trained_all_the_same(checked):
    base = small_tokenizer()
    config = dict(base._config) | {"pad_token": "<|im_end|>"}
    report = checked(clean(), Tokenizer(base._core, config, base.chat_template))
    assert found(report) == {"pad_is_end": "warning"}


def test_training_on_nothing_is_an_error(checked):
    rows = [{"messages": [m | {"train": False} for m in row["messages"]]} for row in clean()]
    assert found(checked(rows)) == {"nothing_to_learn": "error", "all_masked": "error"}


def test_one_text_for_many_answers_is_told(checked):
    rows = [*clean(40), *[chat(f"Question {i}?", "I am sorry, I cannot help with that.") for i in range(5)]]
    report = checked(rows)
    assert found(report) == {"boilerplate": "warning"} and report.findings[0].count == 5


# Preferences, judged answers, prompts, text


def pair(i: int, chosen: str, rejected: str) -> Row:
    return {"prompt": f"Question {i}?", "chosen": chosen, "rejected": rejected}


def test_pairs_are_shown_with_both_sides_and_a_bias_of_length_is_told(checked):
    report = checked([pair(i, f"{i} is the long answer to it", "no") for i in range(25)])
    assert report.files[0][1:] == ("preference", "preference") and len(report.examples[0][1]) == 2
    assert found(report) == {"longer_wins": "note"} and report.statistics.longer_chosen == 25


def test_pairs_that_contradict_each_other_are_an_error(checked):
    rows = [pair(i, f"yes {i}", f"no, {i}") for i in range(4)]
    report = checked([*rows, pair(2, "no, 2", "yes 2")])
    assert found(report)["reversed_pair"] == "error"


def test_judged_answers_with_a_single_label_are_an_error(checked):
    rows = [{"prompt": f"Question {i}?", "completion": f"Answer {i}", "label": True} for i in range(25)]
    report = checked(rows)
    assert report.files[0][1] == "unpaired-preference" and found(report) == {"one_label": "error"}


def test_prompts_have_nothing_to_learn_and_that_is_no_mistake(checked):
    report = checked([{"prompt": f"Question {i}?", "answer": str(i)} for i in range(25)])
    assert report.files[0][1:] == ("prompt-only", "prompt-only") and not report.findings


def test_plain_text_needs_no_template(checked):
    report = checked([{"text": f"{LONG}{i}"} for i in range(3)], with_template(None))
    assert report.files[0][1:] == ("text", "text") and "no_template" not in found(report)


def test_prompts_and_completions_may_be_plain_text(tmp_path: Path):
    file = write(tmp_path / "x.jsonl", [{"prompt": f"{LONG}{i}:", "completion": f" {i} birds"} for i in range(3)])
    report = check([file], with_template(None), 512, plain=True)
    assert report.files[0][1:] == ("text", "prompt-completion") and not report.errors
    assert found(check([file], with_template(None), 512))["no_template"] == "error"


def test_a_file_of_nothing_known_is_refused(checked):
    with pytest.raises(LuhuoError, match="No known layout"):
        checked([{"foo": 1}])


# The parts


@pytest.mark.parametrize("text", ["cafÃ©", "itâ€™s", "ä½ å¥½", "浣犲ソ锛屼笘鐣", "锟斤拷", "broken \ufffd"])
def test_wrongly_decoded_text_is_seen(text: str):
    assert mojibake(text)


@pytest.mark.parametrize(
    "text",
    [
        "café, naïve, Übergröße",
        "你好，世界。今天天气很好！",
        "“quoted” – ‘text’…",
        "中文，English，とても",
        "5 °C ± 1 µm",
    ],
)
def test_text_in_its_own_characters_is_not(text: str):
    assert mojibake(text) is None


@pytest.mark.parametrize(
    ("question", "answer", "told"),
    [
        ("你叫什么名字？请详细介绍一下自己。", "My name is Lin and I live by the sea.", "zh, en"),
        ("翻译：你好，很高兴见到你", "Hello, it is nice to see you here", None),
        ("Say it in Chinese: good morning", "早上好，早上好，早上好", None),
        ("Where does 林小明 live?", "He lives in the house of 林小明 near the sea.", None),
        ("请用 JSON 写出 name、job、age、town", '{"name": "林", "job": "农", "age": 3, "town": "海"}', None),
        ("What is it?", "苹果", None),
    ],
)
def test_another_language_is_told_unless_it_was_asked_for(question: str, answer: str, told: str | None):
    assert in_other_language(question, answer) == told


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("```python\nprint(1)", True),
        (LONG * 4, False),
        (LONG * 4 + "\n- apples\n- pears", False),
        ("Berlin", False),
        ("河水流过老磨坊。冬天很冷，夏天很暖。" * 12 + "有一次我们一起去看它的时候，那里", True),
        ("河水流过老磨坊。冬天很冷，夏天很暖。" * 12 + "我们一起去看了它，", True),
    ],
)
def test_answers_that_end_too_early(answer: str, expected: bool):
    assert cut_off(answer) is expected


def test_near_duplicates_are_told_from_different_texts():
    near = Near()
    texts = [f"{LONG} Its numbers are {', '.join(str(i * k) for k in range(1, 20))}." for i in range(101, 113)]
    assert [near.see(text, i) for i, text in enumerate(texts)] == [None] * 12
    assert near.see(texts[4].replace("cold", "Cold"), 99) == 4


def test_leaks_in_chinese_need_a_long_run_of_characters():
    leaks = Leaks()
    leaks.remember("安娜从港口走到市场，给她的姑姑买了七个红苹果和两个梨", 1)
    assert leaks.find("?", "有一天，安娜从港口走到市场，给她的姑姑买了七个红苹果和两个梨。后来她回家了。") == 1
    assert leaks.find("?", "安娜从港口走到市场。") is None


def test_findings_keep_a_few_examples_and_all_counts():
    findings = Findings()
    for i in range(10):
        findings.add("duplicate", "f", i + 1, "x")
    (one,) = findings.listed(100)
    assert one.count == 10 and len(one.examples) == 3 and one.share == 0.1


# What people see


def test_the_report_marks_targets_in_the_terminal_and_on_the_page(checked, tmp_path: Path):
    report = checked([*clean(), chat("<script>alert(1)</script>", "No \x1b[2J.", note=1)])
    text = "\n".join(lines(report, small_tokenizer(), colour=False, examples=1))
    assert "⟦It is 0.<|im_end|>⟧" in text and "31" in text and "\x1b" not in text
    page = write_page(report, small_tokenizer(), "Data & more", tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<mark>It is 0.&lt;|im_end|&gt;</mark>" in page and "Data &amp; more" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_the_verb_ends_with_one_on_errors_and_zero_on_warnings(tmp_path: Path):
    from luhuo.align.data_check.command import data_check
    from luhuo.model.save import save

    save(small_model(), tmp_path / "m")
    options: dict[str, Any] = {"length": 0, "against": [], "html": tmp_path / "x.html", "show": 1, "plain": False}
    good = write(tmp_path / "good.jsonl", [*clean(), PLANTED["special_text"]])
    assert data_check([str(good)], str(tmp_path / "m"), **options) == 0 and (tmp_path / "x.html").is_file()
    bad = write(tmp_path / "bad.jsonl", [chat("a", "", x=i) for i in range(9)])
    assert data_check([str(bad)], str(tmp_path / "m"), **options) == 1


def test_the_command_line_names_the_verb_without_torch():
    code = "import luhuo.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fine_tuning_tells_what_is_wrong_with_its_data_and_goes_on(tmp_path: Path, capsys):
    from luhuo.align.stages import SftStage
    from luhuo.core.artifact import produce
    from luhuo.model.save import save

    save(small_model(), tmp_path / "m")
    data = write(tmp_path / "x.jsonl", [*clean(5), PLANTED["mojibake"]])
    held = write(tmp_path / "held.jsonl", clean(1))
    settings = {"model": str(tmp_path / "m"), "data": str(data), "valid": str(held), "steps": 1, "length": 128}
    done = produce("sft", SftStage.parse(settings | {"device": "cpu", "threads": 1}), tmp_path / "out")
    told = capsys.readouterr().err
    assert "questions of the evaluation set" in told and "wrong character set" in told
    assert done.manifest["metrics"]["data.errors"] == 2 and done.manifest["metrics"]["data.warnings"] == 0
