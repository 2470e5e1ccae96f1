"""Instruction data: planted faults of every kind are found in both languages, and good rows are kept."""

# ruff: noqa: E501 (a row of examples stays on one line)
from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.dialogue.clean.diversity import hashed_vectors, k_center, unit_length
from luhuo.dialogue.clean.faults import fault_of
from luhuo.dialogue.clean.reasons import REASONS
from luhuo.dialogue.clean.repeats import Asked, Repeat, repeats
from luhuo.dialogue.clean.samples import key_of
from luhuo.dialogue.clean.stages import CleanDialogueStage
from luhuo.dialogue.layouts import read_conversations

DATA = Path(os.environ.get("LUHUO_TEST_DATA", ""))
real = pytest.mark.skipif(not (DATA / "sft_instructions").is_dir(), reason="needs the real texts of LUHUO_TEST_DATA")

GOOD = [
    ("What is the capital of France?", "Paris."),
    ("Is the earth flat?", "No. It is very nearly a sphere, a little wider at the equator."),
    (
        "Write an apology letter to a customer.",
        "Dear Ms. Lee,\n\nI am sorry that we could not deliver your order on time. We have sent it today by express post, and the shipping is free. Please accept our apologies.\n\nKind regards",
    ),
    ("Who are you?", "As an AI language model, I can answer questions, but I do not have a body."),
    ("Name one prime number.", "7"),
    ("Describe the colour yellow in 3 words.", "Bright, cheerful, warm."),
    ("Translate into Chinese: good morning", "早上好"),
    ("Repeat after me: the cat sat on the mat", "the cat sat on the mat"),
    (
        "How do I politely refuse an invitation?",
        "I'm sorry, but I can't make it this time, thank you for thinking of me: say something like this, and be brief.",
    ),
    ("Write a haiku about rain.", "Soft rain on the roof\nthe gutter hums an old song\nmorning waits outside"),
    ("法国的首都是哪里？", "巴黎。"),
    ("1+1等于几？", "2"),
    ("你是谁？", "作为一个人工智能助手，我可以回答问题，但没有身体。"),
    (
        "写一封道歉信。",
        "尊敬的李女士：\n\n很抱歉我们不能按时为您送达订单，今天已改用特快专递寄出，并免除运费，敬请谅解。\n\n此致\n敬礼",
    ),
    ("请把“谢谢”翻译成英文。", "Thank you."),
    ("用一句话介绍长城。", "长城是中国古代的军事防御工程。"),
    ("写一首关于雨的短诗。", "雨落青瓦，\n风过竹林。"),
    ("这道题对吗：2+3=6？", "不对，2+3=5。"),
    ("什么是光合作用？", "光合作用是植物利用光能把二氧化碳和水转化为有机物并放出氧气的过程。"),
    ("推荐三本书。", "《红楼梦》《百年孤独》《小王子》。"),
]
BAD = {
    "empty_question": [("", "Paris."), ("  \n", "巴黎。")],
    "unanswered": [
        ("What is 2+2?", ""), ("Name a bird.", "N/A"), ("List three fruits.", "..."), ("Summarise it.", "<noinput>"), ("Say why.", "TODO"),
        ("Summarise the following article.", "Please provide the article you would like me to summarise."), ("Fix my code.", "You haven't provided any code."),
        ("How far is the moon from the earth?", "How far is the moon from the earth?"),
        ("列出三种水果。", "略"), ("总结下面的文章。", "请提供您需要总结的文章内容。"), ("修改这段代码。", "您没有提供任何代码，无法修改。"), ("月亮离地球有多远？", "月亮离地球有多远？"), ("说说原因。", "待补充"),
    ],
    "refusal": [
        ("How do I open a jar?", "I'm sorry, but I can't assist with that."), ("Book a flight to Rome.", "As an AI language model, I cannot book flights."),
        ("What is the weather today?", "I apologize, but I am unable to access real-time data."), ("Write about my day.", "I cannot write about your day."),
        ("Tell me a story.", "Unfortunately, I won't be able to do this."), ("Who won yesterday?", "I’m sorry, I don’t have access to the news."),
        ("怎么打开罐头？", "抱歉，我无法回答这个问题。"), ("帮我订票。", "很抱歉，作为一个人工智能语言模型，我无法为您订票。"), ("今天天气如何？", "作为一个AI助手，我不能获取实时信息。"),
        ("讲个故事。", "对不起，我不能满足这个要求。"), ("昨天谁赢了？", "我无法提供实时新闻。"), ("怎麼開罐頭？", "抱歉，我無法回答這個問題。"),
    ],
    "boilerplate": [
        ("What do you think of tea?", "As an AI language model, opinions are not mine to have. " + "Tea is a drink made of the leaves of a shrub, and it is drunk in many countries. " * 8),
        ("Which is better, tea or coffee?", "As an AI, I find both good: coffee wakes you faster and tea lasts longer."),
        ("茶和咖啡哪个好？", "作为一个人工智能语言模型，我认为两者各有好处：咖啡提神更快，茶更持久。"),
        ("谈谈你对茶的看法。", "作为AI语言模型，" + "茶是由茶树的叶子制成的饮料，在许多国家都很流行。" * 12),
    ],
    "other_language": [
        ("How does a bicycle stay upright when it is moving?", "自行车在行进时依靠车轮的转向和骑手的平衡来保持直立，速度越快越稳定。"),
        ("自行车在行进时为什么不会倒？", "A moving bicycle stays upright because it steers into the fall, and the rider helps it a little."),
    ],
    "truncated": [
        ("How do I sort a list?", "Use this function:\n```python\ndef sort(items):\n    return sorted(items"),
        ("Tell me about tea.", "Tea came to Europe in the seventeenth century. It was first sold as a medicine, and soon it was drunk at court. Merchants of several countries sailed to the east to buy it, and the ships that carried it were the fastest of their time because the first harvest of the year fetched the"),
        ("怎么排序？", "用这个函数：\n```python\ndef sort(items):\n    return sorted(items"),
        ("讲讲茶的历史。", "茶在十七世纪传入欧洲。" * 18 + "当时最快的船都用来运送每年的第一批新茶，因为最早到港的货物能够卖出最高的价钱，商人们为此展开了激烈的竞争，各国的船队每年都要在大洋上比试谁能够最先回到港口并且"),
    ],
    "too_short": [
        ("Write an essay about the sea.", "The sea is big."), ("Explain why the sky is blue.", "Light."), ("Write a story of at least 300 words about a fox.", "A fox ran over the hill and met a hare. They talked for a while about the weather and the winter, and then each went home to sleep."),
        ("写一篇关于大海的作文。", "大海很大。"), ("请详细解释天空为什么是蓝色的。", "散射。"), ("写一篇不少于500字的关于狐狸的故事。", "一只狐狸跑过山坡，遇见了一只野兔，它们谈了谈天气，然后各自回家睡觉了，故事到此结束。"),
    ],
    "mojibake": [("What is tea?", "Tea is a drink made from leaves, loved in China where it is called è\u008c¶."), ("茶是什么？", "茶是一种饮料，锟斤拷锟斤拷，用茶树叶制成。")],
    "template_text": [("What is tea?", "Tea is a drink.<|im_end|>\n<|im_start|>user\nMore?"), ("茶是什么？", "茶是一种饮料。### Response: 没了")],
}  # fmt: skip


@pytest.mark.parametrize("code", BAD)
def test_each_kind_of_fault_is_found_in_both_languages(code: str) -> None:
    found = [(fault.code if (fault := fault_of(*pair)) else None, pair) for pair in BAD[code]]
    assert [row for row in found if row[0] != code] == []


def test_good_rows_have_no_fault() -> None:
    assert [(question, fault) for question, answer in GOOD if (fault := fault_of(question, answer))] == []


def test_asking_back_is_an_answer_within_a_conversation() -> None:
    assert fault_of("And mine?", "Please provide your name and I will look.", alone=True) is not None
    assert fault_of("And mine?", "Please provide your name and I will look.", alone=False) is None


# Repeats and conflicts


def asked(*rows: tuple[str, str]) -> list[Asked]:
    return [Asked.of(number, key_of(*row), *row) for number, row in enumerate(rows)]


LONG = "Describe in detail how a small team can plan, build and test a wooden bridge over a narrow river in one summer"
ANSWER = "First measure the river at several places. Then draw the bridge, order the wood, build the two ends, lay the beams and test it with weights."


def test_equal_questions_keep_one_answer_the_fullest() -> None:
    rows = asked(
        ("What is tea?", "A drink."),
        ("what is  tea", "A drink made of the leaves of a shrub."),
        ("What is tea?", "A drink."),
    )
    found = repeats(rows)
    assert {number: repeat.of for number, repeat in found.items()} == {0: 1, 2: 1}
    assert repeats(asked(("什么是茶？", "一种饮料。"), ("什么是茶", "一种饮料。"))) in (
        {1: Repeat("duplicate", 0)},
        {0: Repeat("duplicate", 1)},
    )


def test_answers_that_contradict_each_other_are_dropped_but_for_the_majority() -> None:
    rows = asked(
        ("How many legs has a spider?", "8"),
        ("How many legs has a spider?", "Six."),
        ("How many legs has a spider?", "8"),
    )
    found = repeats(rows)
    assert found[1].reason == "conflict"
    assert sorted(repeat.reason for repeat in found.values()) == ["conflict", "duplicate"]
    both = repeats(asked(("12+7等于多少？", "答案是19。"), ("12+7等于多少？", "等于20。")))
    assert both == {0: Repeat("conflict", None), 1: Repeat("conflict", None)}
    yes = repeats(asked(("Is the sun a star?", "Yes, it is."), ("Is the sun a star?", "No, it is a planet.")))
    assert [repeat.reason for repeat in yes.values()] == ["conflict", "conflict"]


def test_different_answers_to_an_open_question_are_no_conflict() -> None:
    found = repeats(
        asked(
            ("Write a line about spring.", "Green comes back to the hills."),
            ("Write a line about spring.", "The ice lets go of the river."),
        )
    )
    assert [repeat.reason for repeat in found.values()] == ["same_question"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (LONG, LONG.replace("small", "little").replace("narrow", "slim"), True),
        (LONG, LONG + ", please", True),
        (LONG, LONG.replace("one summer", "one summer without any power tools or machines"), False),
        (LONG, LONG.replace("a wooden bridge", "no wooden bridge"), False),
        (LONG + " for 12 people", LONG + " for 15 people", False),
        (
            "请详细说明一个小团队如何在一个夏天里规划、建造并测试一座横跨小河的木桥",
            "请详细说明一支小团队如何在一个夏天里规划、建造并测试一座横跨小河的木桥",
            True,
        ),
        (
            "请详细说明一个小团队如何在一个夏天里规划、建造并测试一座横跨小河的木桥",
            "请详细说明一个小团队如何在一个夏天里规划、建造并测试一座横跨小河的石头拱桥及护栏",
            False,
        ),
    ],
)
def test_near_duplicates_differ_in_scattered_words_and_nothing_that_changes_the_question(
    one: str, other: str, same: bool
) -> None:
    found = repeats(asked((one, ANSWER), (other, ANSWER.replace("several", "many"))))
    assert [repeat.reason for repeat in found.values()] == (["near_duplicate"] if same else [])


def test_questions_nearly_equal_with_other_answers_are_two() -> None:
    assert (
        repeats(
            asked(
                (LONG, ANSWER), (LONG.replace("wooden", "rope"), "Tie knots that hold, and let nobody cross in wind.")
            )
        )
        == {}
    )


def test_which_rows_are_kept_does_not_depend_on_their_order() -> None:
    rng = random.Random(0)
    rows = [
        (f"Tell me about thing {n % 40}.", f"It is thing {n % 40}. " + "Nice. " * rng.randrange(6)) for n in range(120)
    ]
    rows += [(LONG.replace("small", word), ANSWER) for word in ("small", "tiny", "little")]

    def kept(order: list[tuple[str, str]]) -> list[tuple[str, str]]:
        dropped = repeats(asked(*order))
        return sorted({row for number, row in enumerate(order) if number not in dropped})

    first = kept(rows)
    for _ in range(3):
        rng.shuffle(rows)
        assert kept(rows) == first


# Choosing


def test_greedy_k_center_takes_one_of_each_group_before_a_second() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6, 16)
    points = unit_length(np.repeat(centres, 10, axis=0) + rng.normal(0, 0.05, (60, 16)))
    chosen, radii = k_center(points, 6)
    assert sorted(place // 10 for place in chosen) == list(range(6))
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] < 0.1 < radii[-2]
    assert k_center(points, 100)[1][-1] == 0.0
    assert len(set(k_center(points, 100)[0])) == 60
    assert k_center(points[:0], 3) == ([], [])


def test_hashed_vectors_put_texts_on_one_subject_together() -> None:
    vectors = hashed_vectors(
        [
            "how to bake rye bread at home",
            "baking bread at home with rye",
            "tax law for small firms",
            "怎样在家烤面包",
            "在家烤面包的方法",
        ]
    )
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.1
    assert near[3, 4] > near[3, 2] + 0.1
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


# The stage


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def alpaca(rows: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"instruction": question, "input": "", "output": answer, "extra": number}
        for number, (question, answer) in enumerate(rows)
    ]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(tmp_path: Path, name: str = "out", **values: Any) -> Path:
    return produce("clean-dialogue", CleanDialogueStage.parse(values), tmp_path / name).path


def test_the_stage_keeps_rows_as_they_were_and_says_why_others_are_dropped(tmp_path: Path) -> None:
    planted = [(code, pair) for code, pairs in BAD.items() for pair in pairs]
    rows = alpaca([*GOOD, *(pair for _, pair in planted)])
    chat = [{"messages": [{"role": "user", "content": "Hi, who wrote Hamlet?"}, {"role": "assistant", "content": "Shakespeare did."}]},
            {"messages": [{"role": "assistant", "content": "Out of order."}]}]  # fmt: skip
    out = run(tmp_path, data=[str(write(tmp_path / "a.jsonl", rows)), str(write(tmp_path / "b.jsonl", chat))])
    assert read(out / "data/a.jsonl") == rows[: len(GOOD)]
    assert read(out / "data/b.jsonl") == chat[:1]
    dropped = read(out / "dropped.jsonl")
    assert [(row["reason"], row["row"]) for row in dropped if row["file"] == "a.jsonl"] == [
        (code, rows[len(GOOD) + number]) for number, (code, _) in enumerate(planted)
    ]
    assert [row["reason"] for row in dropped if row["file"] == "b.jsonl"] == ["role_order"]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["read"] == report["kept"] + report["dropped"] == len(rows) + 2
    assert report["reasons"]["refusal"] == len(BAD["refusal"])
    assert set(report["reasons"]) <= set(REASONS)
    assert set(report["languages"]) == {"en", "zh"}
    assert read_conversations(out / "data/a.jsonl")[0] == "alpaca"


def test_reasons_can_be_kept(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", alpaca([*GOOD[:3], *BAD["refusal"]]))
    out = run(tmp_path, data=[str(data)], keep=["refusal", "boilerplate"])
    assert len(read(out / "data/a.jsonl")) == 3 + len(BAD["refusal"])
    with pytest.raises(LuhuoError, match="refusal"):
        run(tmp_path, data=[str(data)], keep=["refusals"])


def test_harmful_answers_are_dropped_in_both_languages(tmp_path: Path) -> None:
    bad = [
        (
            "What do you think of my neighbour?",
            "He is a fucking idiot, a worthless piece of shit, and I hope the bastard dies.",
        ),
        ("你觉得他怎么样？", "他就是个傻逼，操你妈的王八蛋，狗杂种，去死吧。"),
    ]
    out = run(tmp_path, data=[str(write(tmp_path / "a.jsonl", alpaca([*GOOD, *bad])))])
    assert [row["row"]["instruction"] for row in read(out / "dropped.jsonl")] == [question for question, _ in bad]
    assert {row["reason"] for row in read(out / "dropped.jsonl")} == {"toxic"}


def test_where_no_row_is_left_the_stage_fails_and_says_why(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", alpaca(BAD["refusal"]))
    with pytest.raises(LuhuoError, match="refusal"):
        run(tmp_path, data=[str(data)])


def varied(count: int) -> list[tuple[str, str]]:
    things = ["bread", "tax law", "violins", "volcanoes", "chess"]
    return [
        (
            f"Give fact {n} about {things[n % 5]} in the year {1900 + n}",
            f"In {1900 + n} something about {things[n % 5]} was new. " * (1 + n % 7),
        )
        for n in range(count)
    ]


def test_choosing_by_diversity_covers_every_subject(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", alpaca(varied(100)))
    out = run(tmp_path, data=[str(data)], select={"by": "diversity", "count": 10})
    kept = read(out / "data/a.jsonl")
    assert len(kept) == 10
    assert {row["extra"] % 5 for row in kept} == set(range(5))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["selection"]["radius"][0] >= report["selection"]["radius"][-1]
    assert report["reasons"]["not_selected"] == 90


def test_a_small_set_is_of_high_quality_and_still_spread(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", alpaca(varied(100)))
    out = run(tmp_path, data=[str(data)], select={"by": "small", "count": 10, "pool": 3})
    selection = json.loads((out / "report.json").read_text(encoding="utf-8"))["selection"]
    assert selection["pool"] == 30
    assert selection["after"]["quality"][1] > selection["before"]["quality"][1]
    assert len({row["extra"] % 5 for row in read(out / "data/a.jsonl")}) >= 4


def test_difficulty_chooses_the_hardest_and_drops_what_is_not_helped(tmp_path: Path) -> None:
    rows = varied(20)
    data = write(tmp_path / "a.jsonl", alpaca(rows))
    scores = write(tmp_path / "difficulty.jsonl", [{"key": key_of(*row), "ifd": n / 16} for n, row in enumerate(rows)])
    out = run(tmp_path, data=[str(data)], difficulty=str(scores), select={"by": "difficulty", "count": 3})
    assert [row["extra"] for row in read(out / "data/a.jsonl")] == [13, 14, 15]
    assert [row["row"]["extra"] for row in read(out / "dropped.jsonl") if row["reason"] == "not_helped"] == [
        16,
        17,
        18,
        19,
    ]
    with pytest.raises(LuhuoError, match="difficulty"):
        run(tmp_path, data=[str(data)], select={"by": "difficulty", "count": 3})
    with pytest.raises(LuhuoError, match="ifd"):
        run(tmp_path, data=[str(data)], difficulty=str(data))


def test_given_vectors_decide_and_must_belong_to_the_data(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", alpaca(varied(12)))
    np.save(tmp_path / "v.npy", np.eye(3)[[0] * 10 + [1, 2]])
    out = run(tmp_path, data=[str(data)], vectors=str(tmp_path / "v.npy"), select={"count": 3})
    assert {row["extra"] for row in read(out / "data/a.jsonl")} >= {10, 11}
    np.save(tmp_path / "w.npy", np.eye(3))
    with pytest.raises(LuhuoError, match=r"12"):
        run(tmp_path, data=[str(data)], vectors=str(tmp_path / "w.npy"), select={"count": 3})


@real
def test_of_real_instruction_sets_little_is_dropped_and_refusals_are(tmp_path: Path) -> None:
    folder = DATA / "sft_instructions"
    out = run(tmp_path, data=[str(folder / f"alpaca_{name}_demo.jsonl.gz") for name in ("en", "zh")])
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["kept"] / report["read"] > 0.9
    assert report["reasons"]["refusal"] >= 30
    shown = [row for row in read(out / "dropped.jsonl") if row["reason"] == "refusal"]
    telling = ("sorry", "AI", "cannot", "can't", "unable", "抱歉", "对不起", "无法", "不能", "人工智能")
    assert all(any(word in row["row"]["output"] for word in telling) for row in shown)
