"""Text read in a wrong encoding is put right exactly; text that was right is never touched."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from luhuo.corpus.mojibake import repair

DATA = Path(os.environ.get("LUHUO_TEST_DATA", "/nowhere"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="LUHUO_TEST_DATA names no folder with the real texts")


def windows(data: bytes) -> str:
    """Bytes read as Windows-1252, as programs do: the five bytes it has no letter for stay control characters."""
    return "".join(bytes([b]).decode("cp1252") if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(b) for b in data)


def latin(data: bytes) -> str:
    return data.decode("latin-1")


WAYS = {
    "latin-1": lambda t: latin(t.encode()),
    "windows-1252": lambda t: windows(t.encode()),
    "latin-1:gb18030": lambda t: latin(t.encode("gb18030")),
    "latin-1+latin-1": lambda t: latin(latin(t.encode()).encode()),
    "windows-1252+windows-1252": lambda t: windows(windows(t.encode()).encode()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", ["炉火纯青，是说学问到了很高的境界。Fire 火！", "爐火純青，是說學問到了很高的境界。"])
def test_chinese_read_wrongly_is_put_right(way, text):
    found = repair(WAYS[way](text))
    assert (found.text, found.how) == (text, way)


@pytest.mark.parametrize(
    ("wrong", "right", "how"),
    [
        ("It donâ€™t matter â€” he saidâ€¦", "It don’t matter — he said…", "windows-1252"),
        ("cafÃ© und MÃ¼ller", "café und Müller", "latin-1"),
        ("价格 â‚¬5，CafÃ©", "价格 €5，Café", "windows-1252"),
        ("浣犲ソ涓栫晫", "你好世界", "gb18030"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет", "windows-1252"),
        ("ÖÐ¹úÈËÃñ", "中国人民", "latin-1:gb18030"),
        ("¤¤°ê¤H¥Á¦³¤O¶q", "中國人民有力量", "latin-1:big5hkscs"),
    ],
)
def test_known_examples_are_put_right(wrong, right, how):
    found = repair(wrong)
    assert (found.text, found.how) == (right, how)


@pytest.mark.parametrize(
    "text",
    [
        "IRMÃ” e AMANHÃ” são palavras",
        "“café”“thé”，对吗？",
        "«CAFÉ» «ESPAÑA» «PÄÄ» déjà vu… naïve",
        "É… à… ô” ñ¿",
        "Ærøskøbing, Þórður, Łódź, Čapek, Ångström",
        "锟斤拷烫烫烫，不能恢复的字。",
        "镧系元素钬、锛、鈥都是金属或工具的名字，锛子是木工用的。",
        "鐘聲鄉間鄧鐵鑄鐘鏡",
        "½ × ¼ ± 5°C § 3 ©®™ ²³",
        "",
        "plain ASCII",
    ],
)
def test_text_that_was_right_stays(text):
    assert (repair(text).text, repair(text).how) == (text, "")


def test_what_was_lost_is_left_for_the_signals():
    damaged = "".join(c if c.isprintable() else "\ufffd" for c in latin("炉火纯青".encode()))
    assert repair(damaged).how == ""
    assert repair(f"{damaged}\n{damaged} Â· x").how == ""  # not a point put right amid what is lost
    lossy = "《战国无双》是光荣和开发的作品，本作以三大故事为主轴，分别是武田等人。".encode().decode("gbk", "replace")
    assert repair(lossy).text == lossy


CLEAN = ("zh_docs/docs", "zh_laws/laws", "zh_wiki_qa/drcd_corpus", "zh_wiki_qa/cmrc_corpus", "cranfield/corpus")


def real(names=CLEAN, limit: int = 10**9) -> Iterator[str]:
    for name in names:
        with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as handle:
            for line, _ in zip(handle, range(limit), strict=False):
                yield json.loads(line)["text"]


@needs_data
def test_no_clean_real_text_is_changed():
    texts = list(real())
    assert len(texts) > 6000
    assert [text[:80] for text in texts if repair(text).text != text] == []


@needs_data
@pytest.mark.parametrize("way", WAYS)
def test_real_texts_read_wrongly_are_put_right(way):
    texts = [t[:600] for t in real(("zh_wiki_qa/cmrc_corpus",), 200)]
    exact = sum(repair(WAYS[way](text)).text == text for text in texts)
    assert exact >= (0.9 if way == "latin-1+latin-1" else 0.98) * len(texts)
