"""Items of tasks that are no choice, each with a reply that gets full marks and one that gets none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import Document, documents

SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "光荣公司位于横滨。",
                    "qas": [
                        {"id": "Q1", "question": "光荣公司在哪里？", "answers": [{"text": "横滨"}, {"text": "横滨市"}]}
                    ],
                }
            ]
        }
    ]
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """The sum."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
MBPP = {
    "task_id": 11,
    "text": "Write a sum.",
    "code": "def sum(a, b):\n  return a + b",
    "test_setup_code": "",
    "test_list": ["assert sum(1, 2) == 3", "assert sum(0, 0) == 0", "assert sum(2, 2) == 4"],
}
IFEVAL = {
    "key": 7,
    "prompt": "Say it without commas in capitals.",
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
    "kwargs": [{}, {}],
}
GAOKAO = {"question": "1. … A. 甲 B. 乙", "answer": ["B"], "score": 4, "index": 0}
READING = {"question": "阅读 …", "answer": ["A", "C", "B"], "score": 2, "index": 1}
PHYSICS = {"question": "多选 …", "answer": ["ACD"], "score": 6, "index": 2}
EXAM = {"passage": None, "question": "1 + 1 = ?", "options": ["(A)2", "(B)3"], "label": "A", "answer": None}
SEVERAL = {
    "passage": None,
    "question": "偶数?",
    "options": ["(A)2", "(B)3", "(C)4"],
    "label": ["C", "A"],
    "answer": None,
}
CLOZE = {"passage": None, "question": "$x=$", "options": None, "label": None, "answer": "$\\frac{1}{2}$"}
MATHS = {"problem": "Half?", "solution": "It is $\\boxed{\\frac{1}{2}}$.", "level": "Level 1", "type": "Algebra"}
WORLD = {
    "id": "w1",
    "family": "recall",
    "lang": "en",
    "messages": [{"role": "user", "content": "Where?"}],
    "answer": "Paris",
    "check": {"kind": "exact", "answers": ["Paris"]},
    "chance": 0.1,
}
DIALOGUE = {"fname": "t0", "dialogue": "#Person1#: Hi.", "summary1": "A greeting.", "summary2": "#Person1# says hi."}

# (task, files of its data, a reply with full marks, a reply without any, metrics)
CASES: list[tuple[str, dict[str, Any], str, str, tuple[str, ...]]] = [
    ("ifeval", {"input_data.jsonl": [IFEVAL]}, '"NO PAUSE"', "Well, no.", ("prompt_strict", "prompt_loose")),
    ("humaneval", {"HumanEval.jsonl.gz": [HUMANEVAL]}, "    return a + b\n", "    return a\n", ("pass@1",)),
    (
        "humaneval_chat",
        {"HumanEval.jsonl": [HUMANEVAL]},
        "Sure:\n```python\ndef add(a, b):\n    return a + b\n```",
        "I cannot.",
        ("pass@1",),
    ),
    ("mbpp", {"mbpp.jsonl": [MBPP]}, "def sum(a, b):\n  return a + b\n[DONE]", "def sum(a, b): return 0", ("pass@1",)),
    ("cmrc", {"cmrc2018_dev.json": SQUAD}, "横滨市。", "东京", ("f1", "exact")),
    ("drcd", {"DRCD_test.json": SQUAD}, "<think>…</think>横滨\n因为", "", ("f1", "exact")),
    (
        "dialogsum",
        {"dialogsum.test.jsonl": [DIALOGUE]},
        "#Person1# says hi.",
        "xyz",
        ("rouge1", "rougeL", "rougeLsum"),
    ),
    (
        "csl_title",
        {"csl_title_test.jsonl": [{"abstract": "…", "title": "炉火的训练"}]},
        "炉火的训练",
        "水",
        ("rouge1", "rougeL", "jieba.rougeL"),
    ),
    (
        "wmt23_zh_en",
        {"wmt23_zh2en.jsonl": [{"src": "你好", "ref": "Hello there"}]},
        "Hello there",
        "",
        ("sentence_chrf",),
    ),
    (
        "tatoeba_en_zh",
        {"tatoeba_cmn_eng.jsonl": [{"en": "Hi.", "zh": "嗨。"}, {"en": "Hi.", "zh": "你好。"}]},
        "你好。",
        "",
        ("sentence_chrf",),
    ),
    (
        "gaokao_bench",
        {"2010-2022_History_MCQs.json": {"example": [GAOKAO]}},
        "【解析】A 不对。【答案】B",
        "A",
        ("points", "exact"),
    ),
    (
        "gaokao_bench",
        {"2010-2022_English_Reading_Comp.json": {"example": [READING]}},
        "ACB",
        "B, B, C",
        ("points", "exact"),
    ),
    ("gaokao_bench", {"2010-2022_Physics_MCQs.json": {"example": [PHYSICS]}}, "A、C、D", "AB", ("points", "exact")),
    ("agieval_multiple", {"jec-qa-kd.jsonl": [EXAM, SEVERAL]}, "A, C", "A", ("exact",)),
    ("agieval_cloze", {"gaokao-mathcloze.jsonl": [CLOZE]}, "答案：1/2", "2", ("exact", "lenient")),
    ("math", {"test/algebra/1.json": MATHS}, "So \\boxed{0.5}.", "\\boxed{2}", ("exact", "lenient")),
    ("world", {"dialogue/test.jsonl": [WORLD]}, "Paris.", "Rome", ("accuracy",)),
    ("world_plain", {"test.jsonl": [WORLD]}, "Paris", "", ("accuracy",)),
]


def written(folder: Path, files: dict[str, Any]) -> Path:
    """A folder with the files: lists as JSON lines, other values as JSON."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = content if isinstance(content, list) else [content]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def only(name: str, folder: Path) -> tuple[catalogue.Task, Document]:
    task = catalogue.task(name)
    (document,) = documents(task, folder, limit=None, seed=0, shots=0)
    return task, document
