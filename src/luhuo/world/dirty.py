"""A raw corpus with labelled planted defects, against which cleaning is measured."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from luhuo.world.pages import Page

ADS = {
    "en": ("BUY NOW!!! {} - 90% OFF, click www.example.com/deal, limited offer, free shipping!!!", "Subscribe to our newsletter and win a free {}! Call 555-0100 today!", "Cheap {} online. Best price guaranteed. Sign up, share and follow us!"),
    "zh": ("【限时特惠】{}一折起！扫码关注公众号，立即领取优惠券！！！", "加微信 example_shop 免费领{}，名额有限，先到先得！", "版权所有 转载请注明出处 关注我们 {}全网最低价 点击购买"),
}  # fmt: skip
TRADITIONAL = str.maketrans(
    "说话这时间来东马鸟鱼见门问闻车长书学国个们会对开关乐风飞头发买卖钱铁锁钟镇红绿纸线给谁请谢让认识记讲远边过还进连运动体点热爱听写读",
    "說話這時間來東馬鳥魚見門問聞車長書學國個們會對開關樂風飛頭發買賣錢鐵鎖鐘鎮紅綠紙線給誰請謝讓認識記講遠邊過還進連運動體點熱愛聽寫讀",
)


def _near(text: str, lang: str, rng: random.Random) -> str:
    """Change about 3% of the words (Chinese: characters)."""
    units = list(text) if lang == "zh" else text.split(" ")
    for _ in range(max(1, len(units) * 3 // 100)):
        del units[rng.randrange(len(units))]
    return ("" if lang == "zh" else " ").join(units)


def _changes(text: str) -> int:
    """How many characters differ in the traditional script."""
    return sum(a != b for a, b in zip(text, text.translate(TRADITIONAL), strict=True))


def _mojibake(text: str) -> str:
    """UTF-8 read as Latin-1 (the classic), with the replacement mark where a byte has no letter."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text.encode("utf-8").decode("latin-1"))


def _luhn(digits: str) -> str:
    total = sum(sum(divmod(int(d) * (2 if i % 2 == 0 else 1), 10)) for i, d in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def _resident_id(rng: random.Random) -> str:
    """An invented number of an area code that does not exist (999), with a valid check digit (GB 11643)."""
    body = f"999{rng.randint(0, 999):03d}19{rng.randint(50, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{rng.randint(0, 999):03d}"
    weights = [2 ** (17 - i) % 11 for i in range(17)]
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]


def _personal(lang: str, rng: random.Random) -> tuple[str, list[str]]:
    """A sentence with invented personal data, and the data."""
    mail = f"user{rng.randint(100, 9999)}@example.{rng.choice(('com', 'org', 'net'))}"
    if lang == "zh":
        phone, number = f"1990000{rng.randint(0, 9999):04d}", _resident_id(rng)
        return f"联系电话{phone}，邮箱{mail}，身份证号{number}。", [phone, mail, number]
    phone, card = (
        f"+1-202-555-01{rng.randint(0, 99):02d}",
        _luhn("400000" + "".join(str(rng.randint(0, 9)) for _ in range(9))),
    )
    return f"Call {phone} or write to {mail}; card {card}.", [phone, mail, card]


def corpus(
    pages: Sequence[Page], leaks: Sequence[dict[str, Any]], rng: random.Random, rounds: int = 1
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(documents, labels): every label names the document, the defect and its source.

    A round plants a defect for about every other clean page; one with a page in several rounds has several.
    """
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []

    def add(text: str, lang: str, defect: str | None, **more: Any) -> None:
        rows.append({"id": f"dirty-{len(rows):05d}", "text": text, "lang": lang})
        labels.append({"id": rows[-1]["id"], "defect": defect or "clean", **more})

    for page in pages:
        add(page.text, page.lang, None)
    clean = [(row["id"], page) for row, page in zip(rows, pages, strict=True) if page.lang != "mixed"]
    for number, (name, page) in ((n + 5 * round_, pair) for round_ in range(rounds) for n, pair in enumerate(clean)):
        kind = number % 14
        if kind == 0:
            add(page.text, page.lang, "exact_duplicate", of=name)
        elif kind == 1 and len(page.text) >= 150:
            add(_near(page.text, page.lang, rng), page.lang, "near_duplicate", of=name)
        elif kind == 2:
            sentence, values = _personal(page.lang, rng)
            add(f"{page.text}\n{sentence}", page.lang, "personal_data", values=values)
        elif kind == 3:
            add(
                rng.choice(ADS[page.lang]).format(page.entities[0] if page.entities else "gift"),
                page.lang,
                "advertising",
            )
        elif kind == 4 and page.lang == "zh":
            add(_mojibake(page.text), "zh", "mojibake", of=name)
        elif kind == 5 and page.lang == "zh" and _changes(page.text) >= 5:
            add(page.text.translate(TRADITIONAL), "zh", "traditional_script", of=name)
        elif kind == 6 and leaks:
            item = leaks[number // 14 % len(leaks)]
            add(
                f"{item['messages'][-1]['content']}\n{item['response']}",
                item["lang"],
                "benchmark_leak",
                item=item["id"],
            )
    order = list(range(len(rows)))
    rng.shuffle(order)
    return [rows[i] for i in order], [labels[i] for i in order]
