"""The text that tokenizers are compared on: pages of the world, and everything that trips a tokenizer up."""

from __future__ import annotations

import random
from functools import cache

from luhuo.world import facts
from luhuo.world.write import make_pages

SCRIPTS = {
    "emoji": [chr(c) for c in (*range(0x1F300, 0x1F380), *range(0x1F600, 0x1F650), 0x2764, 0xFE0F, 0x1F3FD)],
    "han_b": [chr(c) for c in range(0x20000, 0x20200)],
    "arabic": [chr(c) for c in (*range(0x621, 0x64B), *range(0x64B, 0x653), 0x60C, 0xFDFA)],
    "thai": [chr(c) for c in range(0xE01, 0xE3B)],
    "devanagari": [chr(c) for c in range(0x905, 0x94D)],
    "hangul": [chr(c) for c in (*range(0xAC00, 0xAC40), *range(0x1100, 0x1113), *range(0x1161, 0x1176))],
    "kana": [chr(c) for c in (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB))],
    "halfwidth": [chr(c) for c in (*range(0xFF66, 0xFF9E), *range(0xFF9E, 0xFFA0))],
    "fullwidth": [chr(c) for c in range(0xFF01, 0xFF5F)],
    "marks": [*"aeiounAEIOUN", *(chr(c) for c in range(0x300, 0x370))],
    "accents": list("àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœŠšŽžĀāŁłŞşİıßẞ"),
    "symbols": list("½¼²³①②Ⅳ№™℃…—–‘’“”«»·•§¶†‡€£¥￥°±×÷≤≥≠√∞∑∫←→↔■□▲△◇◆○●★☆"),
    "controls": [chr(c) for c in (*range(1, 9), 0xB, 0xC, *range(0xE, 0x20), 0x7F, 0x85, 0xAD)],
    "blanks": [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\u00a0", "\u3000", "\u2009", "\u200b", "\u2028"],
    "ascii": [chr(c) for c in range(0x20, 0x7F)],
}
FIXED = [
    "",
    " ",
    "  ",
    "\n",
    "\t \t",
    "\r\n\r\n",
    " leading",
    "trailing ",
    "  two  inside  ",
    "👩‍👩‍👧‍👦 👨🏽‍🚀 🏳️‍🌈 🇨🇳🇩🇪 ❤️‍🔥 1️⃣",
    "𠮷野家で𠀋 𪚥",
    "e\u0301 é A\u030a Å ñ n\u0303 \u1e9b\u0323 ﬁ ﬀ",
    "ＡＢＣ１２３！？（全角）　空白",
    'def f(x):\n    return {\'a\': [1, 2], "b": x ** 2}  # ok\n\n\nif __name__ == "__main__":\n\tprint(f(3))\n',
    "SELECT * FROM t WHERE a<>b AND c>=10.5e-3; -- 注释",
    "https://example.org/a?b=c&d=%E7%82%89#x user@example.org C:\\tmp\\炉火.txt",
    "<s> </s> <unk> <pad> <0x41> <0xE4> ▁ ▁▁a",
    "<|endoftext|><|im_start|>user\n<|im_end|> [CLS] [SEP] [MASK] <bos> <eos> <|user|>",
    "don't DON'T it's IT'S we'll You're I'd they've 'tis",
    "3.14159 1,000,000 2024-01-31 12:30 007 1234567890 ½ ² ٣٤ 三十五",
    "炉火纯青，是炼丹的人说火候到了。" * 8,
    "a" * 200,
    "ab " * 60,
    "一" * 80,
    "!" * 40 + "?" * 20 + "…" * 9,
    "สวัสดีครับ ภาษาไทย مرحبا بالعالم नमस्ते दुनिया 안녕하세요 こんにちは ｺﾝﾆﾁﾊ ｶﾞｷﾞﾊﾟ",
    "\x00\x01\x7f\x85\u2028\u2029\ufeff\ufffd\U0010ffff",
    "İstanbul ISTANBUL ıi ẞß ŒœÆæ ΑΒΓ αβγς Привет ПРИВЕТ",
]


@cache
def bilingual_lines(count: int = 10_000, seed: int = 7) -> list[str]:
    """Half pages of the world, half hard lines: scripts mixed by chance, and bits of pages spliced with them."""
    rng = random.Random(seed)
    pages = make_pages(seed, facts.build(seed, "train"), 60.0 * count, "train")
    prose = [line for page in pages for line in page.text.split("\n") if line]
    lines = list(FIXED)
    while len(lines) < count:
        lines.append(rng.choice(prose) if rng.random() < 0.5 else _hard(rng, prose))
    return lines[:count]


def _hard(rng: random.Random, prose: list[str]) -> str:
    parts = []
    for _ in range(rng.randrange(1, 6)):
        kind = rng.choice([*SCRIPTS, "prose", "fixed"])
        if kind == "prose":
            line = rng.choice(prose)
            start = rng.randrange(len(line))
            parts.append(line[start : start + rng.randrange(1, 30)])
        elif kind == "fixed":
            parts.append(rng.choice(FIXED)[:40])
        else:
            parts.append("".join(rng.choices(SCRIPTS[kind], k=rng.randrange(1, 9))))
    return rng.choice(["", " ", "  ", "\n"]).join(parts)


def training_lines(count: int = 1500) -> list[str]:
    """Text to learn tiny vocabularies from: other lines than those compared on, but of the same kinds."""
    return bilingual_lines(count, seed=8)
