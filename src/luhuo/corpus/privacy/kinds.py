"""The kinds of personal data, what is written where one is hidden, and which are looked for by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """Personal data in a text: `text[start:end] == value`."""

    start: int
    end: int
    kind: str
    value: str


@dataclass(frozen=True)
class Kind:
    """A kind of personal data: its placeholders (without brackets), whether it is looked for by default, and what."""

    en: str
    zh: str
    default: bool
    about_en: str
    about_zh: str


KINDS: dict[str, Kind] = {
    "secret": Kind("SECRET", "密钥", True, "API keys, tokens and private keys.", "API 密钥、令牌与私钥。"),
    "id_number": Kind(
        "ID_NUMBER",
        "身份证号",
        True,
        "Chinese identity numbers: 18 digits with checksum, 15 digits behind a cue.",
        "中国身份证号：18 位带校验码；15 位须有提示词。",
    ),
    "iban": Kind("IBAN", "国际银行账号", True, "IBAN with its checksum.", "带校验的国际银行账号（IBAN）。"),
    "bank_card": Kind(
        "BANK_CARD",
        "银行卡号",
        True,
        "Bank cards: known prefix, length, Luhn.",
        "银行卡号：已知号段、长度、Luhn 校验。",
    ),
    "ssn": Kind("SSN", "社会保障号", True, "US social security numbers behind a cue.", "带提示词的美国社会保障号。"),
    "passport": Kind("PASSPORT", "护照号", True, "Passport numbers behind a cue.", "带提示词的护照号。"),
    "email": Kind("EMAIL", "邮箱", True, "E-mail addresses, also written out.", "电子邮箱，包括变体写法。"),
    "phone": Kind(
        "PHONE",
        "电话号码",
        True,
        "Mobile and landline numbers of China, US and international numbers.",
        "中国手机与固定电话、美国及国际号码。",
    ),
    "wechat": Kind("WECHAT", "微信号", True, "WeChat names behind a cue.", "带提示词的微信号。"),
    "qq": Kind("QQ", "QQ号", True, "QQ numbers behind a cue.", "带提示词的 QQ 号。"),
    "plate": Kind("PLATE", "车牌号", True, "Licence plates of mainland China.", "中国大陆车牌号，含新能源。"),
    "address": Kind(
        "ADDRESS",
        "住址",
        True,
        "Street addresses behind a cue that a person lives there.",
        "带居住或收件提示词的街道地址。",
    ),
    "name": Kind("NAME", "姓名", True, "Names in the field of a form.", "表单栏目中的姓名。"),
    "ip": Kind("IP", "IP地址", True, "Public IP addresses (v4, v6).", "公网 IP 地址（v4、v6）。"),
    "ip_private": Kind(
        "PRIVATE_IP",
        "内网IP",
        False,
        "IP addresses of private networks and of documentation.",
        "内网与文档专用的 IP 地址。",
    ),
    "place": Kind(
        "PLACE",
        "地点",
        False,
        "Street addresses without a cue: mostly those of institutions.",
        "无提示词的街道地址：多为机构地址。",
    ),
}
"""By name, those first that win where two overlap."""

DEFAULT = frozenset(name for name, kind in KINDS.items() if kind.default)
"""What is looked for unless one says otherwise."""
