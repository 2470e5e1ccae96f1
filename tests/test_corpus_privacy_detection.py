"""Personal data is found in running text of both languages, and what looks like it is left alone."""

# ruff: noqa: E501 (a row of examples stays on one line)
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.corpus.privacy import DEFAULT, KINDS, Span, find
from luhuo.corpus.privacy.checksums import (
    IBAN_LENGTHS,
    iban_remainder,
    is_iban,
    is_old_resident_id,
    is_resident_id,
    luhn_digit,
    luhn_sum,
    resident_check,
)


def found(text: str, lang: str = "zh", kinds: frozenset[str] = DEFAULT) -> list[tuple[str, str]]:
    return [(span.kind, span.value) for span in find(text, lang, kinds)]


def digits(rng: random.Random, count: int) -> str:
    return "".join(str(rng.randrange(10)) for _ in range(count))


def resident(rng: random.Random) -> str:
    area = rng.choice(["110101", "310104", "440305", "510107", "650102", "330106", "420111", "999123"])
    body = f"{area}{rng.randint(1930, 2015)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{digits(rng, 3)}"
    number = body + resident_check(body)
    form = rng.randrange(4)
    if form == 0:
        return f"{number[:6]} {number[6:14]} {number[14:]}"
    return number.lower() if form == 1 else number


def card(rng: random.Random) -> str:
    prefix, length = rng.choice(
        [
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("2720", 16),
            ("37", 15),
            ("6011", 16),
            ("3530", 16),
            ("622848", 19),
            ("6217", 16),
            ("621226", 19),
            ("62", 17),
            ("400000", 16),
        ]
    )
    body = prefix + digits(rng, length - len(prefix) - 1)
    number = body + luhn_digit(body)
    if length == 15:
        return rng.choice([number, f"{number[:4]} {number[4:10]} {number[10:]}"])
    mark = rng.choice(["", "", " ", "-"])
    return mark.join(number[place : place + 4] for place in range(0, length, 4)) if length in (16, 19) else number


def iban(rng: random.Random) -> str:
    country = rng.choice(["DE", "CH", "NL", "ES", "AT", "BE", "DK", "PL", "GB", "FR"])
    body = digits(rng, IBAN_LENGTHS[country] - 4)
    body = "NWBK" + body[4:] if country == "GB" else body
    number = f"{country}{98 - iban_remainder(country + '00' + body):02d}{body}"
    return number if rng.random() < 0.5 else " ".join(number[place : place + 4] for place in range(0, len(number), 4))


AROUND = {
    "zh": [
        "请核对以下信息：{}，谢谢。", "他的号码是{}。", "（{}）", "资料显示{}，请于2024年3月15日前确认，共3份。", "1. {}\n2. 备注",
        "|张三|{}|2023-01-02|", "编辑部收到来信，内附“{}”字样。", "{}", "登记人信息{}，金额1,234.50元", "　{}　",
    ],
    "en": [
        "Please check {} before Friday.", "The record says {}, issued on 2024-03-15.", "({})", "value={}", "1. {}\n2. none",
        "| Smith | {} | 2023-01-02 |", "He wrote “{}” on the form.", "{}", "Total 1,234.50 for {}; thanks.", "re: {}?",
    ],
}  # fmt: skip
CUES = {
    ("id_number", "zh"): ["身份证号：", "身份证号码", "公民身份号码 ", ""],
    ("id_number", "en"): ["ID card ", "resident identity number: ", "his ID is ", ""],
    ("bank_card", "zh"): ["卡号：", "银行卡号", "账号 ", ""],
    ("bank_card", "en"): ["card number ", "Visa ", "my card: ", ""],
    ("iban", "zh"): ["IBAN：", "国际账号 ", ""],
    ("iban", "en"): ["IBAN ", "account ", ""],
}


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize(("kind", "make"), [("id_number", resident), ("bank_card", card), ("iban", iban)])
def test_of_numbers_with_a_checksum_99_in_a_hundred_are_found_in_context(
    kind: str, make: Callable[[random.Random], str], lang: str
) -> None:
    rng = random.Random(f"{kind}{lang}")
    missed = []
    for _ in range(1000):
        value = make(rng)
        text = rng.choice(AROUND[lang]).format(rng.choice(CUES[kind, lang]) + value)
        if (kind, value) not in found(text, lang):
            missed.append(text)
    assert len(missed) <= 10, missed[:5]


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize(("kind", "make"), [("id_number", resident), ("bank_card", card), ("iban", iban)])
def test_the_same_numbers_with_a_wrong_check_digit_are_not(
    kind: str, make: Callable[[random.Random], str], lang: str
) -> None:
    rng = random.Random(f"{kind}{lang}")
    for _ in range(300):
        value = make(rng)
        last = "4" if value[-1].lower() == "x" else str((int(value[-1]) + 1) % 10)
        text = rng.choice(AROUND[lang]).format(rng.choice(CUES[kind, lang]) + value[:-1] + last)
        assert kind not in [span.kind for span in find(text, lang)], text


def test_checksums_agree_with_known_numbers() -> None:
    assert is_resident_id("11010519491231002X")
    assert not is_resident_id("110105194912310021")
    assert not is_resident_id("110105194902300023")  # no such day
    assert is_old_resident_id("110105491231002")
    assert not is_old_resident_id("110105491331002")
    assert luhn_sum("4111111111111111") == 0
    assert luhn_digit("7992739871") == "3"
    assert is_iban("GB82WEST12345698765432")
    assert is_iban("DE89370400440532013000")
    assert not is_iban("DE89370400440532013001")
    assert not is_iban("GB82WEST1234569876543")  # a digit short


MOBILES = [
    "13812345678", "138 1234 5678", "138-1234-5678", "+86 13812345678", "+8613812345678", "+86-138-1234-5678",
    "(+86)13812345678", "8613812345678", "0086 138 1234 5678", "１３８１２３４５６７８", "19912345678", "16612345678",
]  # fmt: skip
LANDLINES = ["010-88886666", "(010)88886666", "（021）6888 6666", "0755-26888888", "021 68886666", "+86 10 8888 6666"]
ABROAD = [
    "(202) 555-0143", "202-555-0143", "1-800-555-0199", "+1-202-555-0143", "+1 (202) 555-0143", "+12025550143",
    "+44 20 7946 0958", "+44 7700 900123", "+49 30 901820", "+81-3-1234-5678", "+852 2345 6789", "+33 1 23 45 67 89",
]  # fmt: skip


@pytest.mark.parametrize("number", MOBILES + LANDLINES + ABROAD)
def test_telephone_numbers_are_found_as_people_write_them(number: str) -> None:
    for text in (f"电话：{number}。", f"请拨打{number}联系我", f"{number}", f"张三 {number}，北京", f"（{number}）"):
        assert [value for kind, value in found(text) if kind == "phone"] == [number], text
    for text in (f"Call {number} now", f"phone: {number}.", f"{number}", f"Bob, {number}, London"):
        assert [value for kind, value in found(text, "en") if kind == "phone"] == [number], text


def test_a_landline_without_a_dash_needs_a_word_that_says_what_it_is() -> None:
    assert found("电话 01088886666") == [("phone", "01088886666")]
    assert found("共01088886666项") == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("请写信到zhang.san@example.com。", "zhang.san@example.com"),
        ("邮箱：ｚｓ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ｚｓ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
        ("邮箱：zs＠example.com，谢谢", "zs＠example.com"),
        ("Mail a_b+c@mail.example.co.uk, please", "a_b+c@mail.example.co.uk"),
        ("<mailto:j.doe@example.org>", "j.doe@example.org"),
        ("write to jane [at] example [dot] com today", "jane [at] example [dot] com"),
        ("jane(at)example.com", "jane(at)example.com"),
        ("reach jane.doe at mail dot example dot org.", "jane.doe at mail dot example dot org"),
    ],
)
def test_e_mail_addresses_are_found_plain_and_spelt_out(text: str, value: str) -> None:
    assert found(text, "en") == [("email", value)]


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png", "@decorator", "git@github.com:owner/name.git", "user@localhost", "look at that dot com boom",
        "meet me at noon", "a@b", "pkg@1.2.3", "https://medium.com/@some.one", "array[at] = list(at)",
    ],
)  # fmt: skip
def test_what_has_an_at_sign_is_not_yet_an_address(text: str) -> None:
    assert found(text, "en") == []


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("微信号：wx_zhang88，随时联系", "wechat", "wx_zhang88"),
        ("加微信 example_shop 领取", "wechat", "example_shop"),
        ("加V：abc12345", "wechat", "abc12345"),
        ("WeChat ID: jane_doe1", "wechat", "jane_doe1"),
        ("微信號：wx_chang88", "wechat", "wx_chang88"),
        ("身分證號碼：110105491231002", "id_number", "110105491231002"),
        ("護照號碼：E12345678", "passport", "E12345678"),
        ("電話 01088886666", "phone", "01088886666"),
        ("聯絡人：陳美玲，電話略", "name", "陳美玲"),
        ("QQ：123456789", "qq", "123456789"),
        ("扣扣 1234567", "qq", "1234567"),
        ("QQ群号是87654321。", "qq", "87654321"),
        ("车牌为京A·12345的轿车", "plate", "京A·12345"),
        ("粤B12345D停在路边", "plate", "粤B12345D"),
        ("沪AD12345是新能源车", "plate", "沪AD12345"),
        ("护照号码：E12345678", "passport", "E12345678"),
        ("Passport No. 123456789 expires", "passport", "123456789"),
        ("SSN: 123-45-6789", "ssn", "123-45-6789"),
        ("her social security number is 123 45 6789", "ssn", "123 45 6789"),
        ("身份证：110105491231002", "id_number", "110105491231002"),
        ("住址：北京市海淀区中关村大街27号院3号楼2单元501室", "address", "北京市海淀区中关村大街27号院3号楼2单元501室"),
        ("他家住浙江省杭州市西湖区文三路100号。", "address", "浙江省杭州市西湖区文三路100号"),
        ("He lives at 742 Evergreen Terrace, Springfield, IL 62704.", "address", "742 Evergreen Terrace, Springfield, IL 62704"),
        ("姓名：欧阳明月，性别：女", "name", "欧阳明月"),
        ("联系人：张伟\n电话：略", "name", "张伟"),
        ("Patient name: Mary Ann Johnson", "name", "Mary Ann Johnson"),
        ("server 93.184.216.34 answered", "ip", "93.184.216.34"),
        ("IP: 8.8.4.4", "ip", "8.8.4.4"),
        ("from 2606:2800:220:1:248:1893:25c8:1946 port 80", "ip", "2606:2800:220:1:248:1893:25c8:1946"),
    ],
)  # fmt: skip
def test_what_needs_a_word_beside_it_is_found_behind_that_word(text: str, kind: str, value: str) -> None:
    assert found(text, "zh" if not text.isascii() else "en") == [(kind, value)]


SECRETS = [
    "AKIA2E0A8F3B244C9986", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "sk-proj-abcDEF123456ghiJKL789mnoPQR",
    "xoxb-2403921478-AbCdEfGh1234", "AIzaSyD3f9K2m1N8b7V6c5X4z3A2s1Q0w9E8r7T", "glpat-Ab3dEf6hIj9kLm2nOp5q",
    "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345", "LTAI5tAbCdEfGhIjKlMnOp12",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_tokens_with_known_prefixes_are_secrets(secret: str) -> None:
    assert found(f"token = '{secret}'\n", "en") == [("secret", secret)]
    assert found(f"密钥是{secret}，勿外传") == [("secret", secret)]


def test_private_keys_are_secrets_as_a_whole() -> None:
    block = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEow12abcd+/\n" * 5 + "-----END RSA PRIVATE KEY-----"
    assert found(f"cat key\n{block}\n$", "en") == [("secret", block)]


def test_tokens_of_a_manual_are_none() -> None:
    assert found("export KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxx ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "en") == []


HARD = [
    "订单号：4111111111111111", "订单编号 62284800000000000010", "ISBN 978-7-111-12345-6", "ISBN 9787111123450",
    "2024-03-15 13:20:45", "20240315132045", "1672531199000", "md5: 5d41402abc4b2a76b9719d911017c592",
    "commit 13812345678abcdef", "3.14159265358979323846", "0.13812345678", "13812345678.50元", "共计13812345678元",
    "13,812,345,678", "快递单号13812345678", "流水号：13812345678", "| 12 | 13812345678 bytes |", "https://example.com/item/13812345678",
    "国务院令第588号", "中华人民共和国主席令第三十五号", "第12345678号", "津国土房任〔2008〕123号", "v1.2.3.4", "版本 10.15.7.1024",
    "第8.2.4.44节", "1.2.3.4", "std::string::npos", "12:30:45", "a::b", "00:1B:44:11:3A:B7", "QQ音乐", "微信支付", "微信 WeChat 登录",
    "新A股指数上涨", "京A座", "550e8400-e29b-41d4-a716-446655440000", "12345678-1234-1234-1234-123456789012", "192.168.1.1", "127.0.0.1",
    "10.0.0.1/8", "fe80::1", "::1", "123-45-6789", "姓名：请填写", "联系人：见附件", "Name: Visual Studio", "name: string", "南京路100号",
    "100 Main Street", "GB2312-1980", "555-0100", "1.234.567.8901", "2020-2021-2022", "+35236450.6", "x+12345678901", "1234567890123456",
    "1,000,000,000,000,000", "100000000000000000", "6.02214076e23", "2^61-1=2305843009213693951", "UTC+8 2024", "电影票房2.13812345678亿",
]  # fmt: skip


@pytest.mark.parametrize("text", HARD)
def test_numbers_of_things_are_left_alone(text: str) -> None:
    for lang in ("zh", "en"):
        for whole in (text, f"见 {text} 。", f"see {text} there"):
            assert found(whole, lang) == [], whole


def test_random_long_numbers_are_hardly_ever_taken_for_those_of_persons() -> None:
    rng = random.Random(7)
    counts: Counter[str] = Counter()
    for _ in range(4000):
        text = f"数据 {digits(rng, rng.randint(8, 30))} 条"
        counts.update(span.kind for span in find(text, "zh"))
    assert counts.total() <= 20, counts


def test_kinds_can_be_switched_and_have_defaults() -> None:
    text = "router 192.168.1.1 and a@example.com at 南京市鼓楼区中山路55号"
    assert found(text) == [("email", "a@example.com")]
    everything = found(text, "zh", frozenset(KINDS))
    assert [kind for kind, _ in everything] == ["ip_private", "email", "place"]
    assert found(text, "zh", frozenset({"ip_private"})) == [("ip_private", "192.168.1.1")]
    with pytest.raises(LuhuoError, match="email"):
        find(text, "zh", {"emial"})


def test_offsets_are_those_of_the_text_as_given_and_spans_never_overlap() -> None:
    text = "　联系人：李雷　电话：１３８－１２３４－５６７８（微信同号），邮箱lilei＠example.com；备用 010–88886666。"
    spans = find(text, "zh")
    assert [span.kind for span in spans] == ["name", "phone", "email", "phone"]
    assert all(text[span.start : span.end] == span.value for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_a_name_in_a_form_is_found_in_the_rest_of_the_text() -> None:
    text = "姓名：王小明\n王小明于2020年入职。同事说王小明很好。"
    assert [span.value for span in find(text, "zh")] == ["王小明"] * 3


def test_many_spans_in_one_text_take_time_in_proportion() -> None:
    text = " ".join(f"user{n}@example.com" for n in range(20_000))
    assert len(find(text, "en")) == 20_000


def test_long_runs_of_digits_and_marks_end_in_time() -> None:
    for text in ("1" * 200_000, "1 " * 100_000, "1-" * 100_000, "+" * 100_000, "a" * 200_000 + "@", "call 13812345678 " * 20_000, "@" * 50_000,
                 "市" * 100_000, ":" * 100_000, "1." * 100_000, "A1" * 100_000, "路1号" * 30_000, "-----BEGIN PRIVATE KEY-----" * 3000):  # fmt: skip
        assert isinstance(find(text, "zh", frozenset(KINDS)), list)


def test_a_span_is_a_plain_tuple() -> None:
    assert find("QQ：123456789", "zh") == [Span(3, 12, "qq", "123456789")]
