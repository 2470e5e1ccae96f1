"""Junk of the kinds that rules are for, made from clean text; and advertising in other words than the world's."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from luhuo.corpus.signals import chinese

MENUS = {
    "en": ("Home", "About us", "Products", "News", "Contact", "Careers", "Support", "Blog", "Login", "Shop", "FAQ"),
    "zh": ("首页", "新闻", "体育", "财经", "娱乐", "汽车", "房产", "教育", "科技", "论坛", "登录", "注册"),
}
FOOTERS = {
    "en": (
        "Copyright © 2021 Acme Ltd. All rights reserved.", "Privacy Policy | Terms of Use", "Leave a comment",
        "You may also like", "Share on Facebook", "Accept all cookies", "Related posts", "Powered by WordPress",
    ),
    "zh": (
        "版权所有 © 某某科技有限公司", "京ICP备12345678号-1", "扫码关注公众号", "上一篇：春天来了", "下一篇：没有了",
        "责任编辑：小王", "未经授权，禁止转载", "相关推荐",
    ),
}  # fmt: skip
ADVERTISING = {
    "en": (
        "Looking for cheap sunglasses online? Visit our store for the best prices and free shipping over $50!",
        "Act now! This limited time offer ends tonight. Use code SAVE20 and get 20% off your first order.",
        "Earn money from home today! No experience needed. Sign up now and receive a free gift worth $100.",
        "Hurry up, while stocks last: huge discounts on designer bags, satisfaction guaranteed, order now.",
        "Play at the best online casino with our exclusive offer: claim your bonus code and win a free spin.",
        "Subscribe now and follow us for daily deals. Like and subscribe, and don't miss out on our coupon codes!",
    ),
    "zh": (
        "厂家直销，全场包邮，货到付款，咨询热线400-000-0000，现在下单立减五十元。",
        "想瘦身吗？加我微信，免费咨询，无效退款，名额有限，立即抢购！",
        "兼职日结，轻松赚钱，月入过万不是梦，有意者加qq123456进群了解。",
        "本店新品限时优惠，扫码领取红包，点击链接立即购买，先到先得。",
        "无抵押贷款，秒批到账，客服微信同号，点击咨询。",
        "注册送彩金，真人荷官在线发牌，首存翻倍，点击领取优惠码。",
    ),
}


def keywords(rng: random.Random, lang: str, text: str) -> str:
    """A page of keywords: no sentence, no function word."""
    if lang == "zh":
        pairs = re.findall("[\u4e00-\u9fff]{2}", re.sub(f"[{chinese.FUNCTION}]", "，", text))
        return "、".join(rng.choices(pairs or ["手机"], k=500))
    words = sorted(set(re.findall(r"[a-z]{5,}", text.lower()))) or ["mobile"]
    return ", ".join(f"{rng.choice(words)} {rng.choice(words)}" for _ in range(250))


def menu(rng: random.Random, lang: str, text: str) -> str:
    """Lines of navigation around a line of text."""
    rows = [" | ".join(rng.sample(MENUS[lang], 6)) for _ in range(4)]
    return "\n".join([*rows, text.split("\n")[0][:80]])


def footer(rng: random.Random, lang: str, text: str) -> str:
    """Two lines of text and what stands around them."""
    lines = [line for line in text.split("\n") if line.strip()][:2]
    return "\n".join([*lines, *rng.sample(FOOTERS[lang], 6)])


def copies(rng: random.Random, lang: str, text: str) -> str:
    """The same hundred characters again and again."""
    return (text[:100].strip() + "\n") * rng.randint(8, 40)


def latin1(rng: random.Random, lang: str, text: str) -> str:
    """UTF-8 read as Windows-1252 where that has a letter, as Latin-1 elsewhere."""
    return "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in text[:400].encode())


def gbk(rng: random.Random, lang: str, text: str) -> str:
    """UTF-8 read as GBK."""
    return text[:400].encode().decode("gbk", "replace").replace("\ufffd", "?")


def lost(rng: random.Random, lang: str, text: str) -> str:
    """GBK read as UTF-8."""
    return text[:400].encode("gbk", "ignore").decode("utf-8", "replace")


def kun(rng: random.Random, lang: str, text: str) -> str:
    """锟斤拷 where characters were lost twice over."""
    return "".join("锟斤拷" if rng.random() < 0.2 else c for c in text[:400])


def column(rng: random.Random, lang: str, text: str) -> str:
    """One character a line."""
    return "\n".join(text[:200].replace("\n", ""))


def addresses(rng: random.Random, lang: str, text: str) -> str:
    """A list of links."""
    return "\n".join(f"https://www.example.com/{rng.randrange(10**9)}/index.html" for _ in range(20))


def rows_of_symbols(rng: random.Random, lang: str, text: str) -> str:
    """Ornaments."""
    return "\n".join("".join(rng.choices("★☆◆━═~*·.", k=40)) for _ in range(10)) + "\n" + text[:40]


Junk = Callable[[random.Random, str, str], str]
KINDS: dict[str, dict[str, Junk]] = {
    "en": {f.__name__: f for f in (keywords, menu, footer, copies, addresses, rows_of_symbols)},
    "zh": {
        f.__name__: f
        for f in (keywords, menu, footer, copies, latin1, gbk, lost, kun, column, addresses, rows_of_symbols)
    },
}
REASONS = {
    "keywords": {"no_sentences"},
    "menu": {"navigation"},
    "footer": {"boilerplate"},
    "copies": {"repeated_lines", "repeated_phrases"},
    "latin1": {"mojibake_latin1"},
    "gbk": {"mojibake_gbk"},
    "lost": {"mojibake"},
    "kun": {"mojibake_gbk"},
    "column": {"broken_lines"},
    "addresses": {"links"},
    "rows_of_symbols": {"symbols"},
}
"""What a rule must say of each."""
