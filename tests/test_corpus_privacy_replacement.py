"""What was found is hidden alike everywhere, by values that are nobody's, and accounted for without being shown."""

# ruff: noqa: E501 (a row of examples stays on one line)
from __future__ import annotations

import gzip
import json
import os
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.corpus.privacy import KINDS, Audit, find, masked, replace
from luhuo.corpus.privacy.checksums import iban_remainder, is_resident_id, luhn_sum
from luhuo.world import facts
from luhuo.world.dirty import corpus as dirty_corpus
from luhuo.world.write import make_pages

DATA = Path(os.environ.get("LUHUO_TEST_DATA", ""))
real = pytest.mark.skipif(not (DATA / "zh_laws").is_dir(), reason="needs the real texts of LUHUO_TEST_DATA")

ZH = (
    "姓名：李雷\n手机：138-1234-5678，备用+86 13912345678。邮箱lilei@corp.cn。身份证110105 19491231 002X，"
    "卡号6228480402564890018，微信号：lilei_88，QQ：12345678，车牌京A·12345，护照号E12345678，"
    "住址：北京市海淀区中关村大街27号。电话 010-88886666，再打13812345678。服务器IP 93.184.216.34。"
)
EN = (
    "Full name: Mary Jones. Call (202) 456-1414 or +44 20 7946 0958 or +49 30 901820. Mail mary@corp.com, again MARY@corp.com. "
    "SSN 123-45-6789. IBAN GB82 WEST 1234 5698 7654 32. Card 4111-1111-1111-1111. Passport No. 123456789. She lives at "
    "10 Downing Street. Key ghp_16C7e42F292c6912E7710c838347Ae178B4a. Host 2606:2800:220:1:248:1893:25c8:1946."
)


def hidden(text: str, lang: str, **options: str) -> str:
    return replace(text, find(text, lang), lang=lang, **options)  # pyright: ignore[reportArgumentType]


def test_placeholders_are_typed_in_the_language_of_the_text_and_numbered_where_values_differ() -> None:
    text = hidden(ZH, "zh")
    assert text.startswith(
        "姓名：<姓名>\n手机：<电话号码>，备用<电话号码_2>。邮箱<邮箱>。身份证<身份证号>，卡号<银行卡号>"
    )
    assert "再打<电话号码>。" in text  # the first number in another writing
    assert "电话 <电话号码_3>" in text
    english = hidden(EN, "en")
    assert english.startswith(
        "Full name: <NAME>. Call <PHONE> or <PHONE_2> or <PHONE_3>. Mail <EMAIL>, again <EMAIL>. SSN <SSN>."
    )
    assert find(text, "zh") == find(english, "en") == []


def test_without_a_language_the_script_of_the_text_decides() -> None:
    assert replace("电话13812345678", find("电话13812345678", "zh")) == "电话<电话号码>"
    assert replace("call 202-456-1414", find("call 202-456-1414", "en")) == "call <PHONE>"


@pytest.mark.parametrize(("text", "lang"), [(ZH, "zh"), (EN, "en")])
def test_nothing_of_a_value_is_left_in_either_style(text: str, lang: str) -> None:
    spans = find(text, lang)
    assert len({span.kind for span in spans}) >= 10
    for style in ("placeholder", "synthetic"):
        result = hidden(text, lang, style=style, key="k")
        for span in spans:
            assert span.value not in result
        frame = [text[a.end : b.start] for a, b in pairwise(spans)]
        assert all(part in result for part in frame)


def test_values_of_a_corpus_keep_their_tag_and_their_synthetic_value_under_one_key() -> None:
    one, two = "打13812345678", "他的号码：+86 138-1234-5678。另一个：13912345678"
    for options in ({"scope": "corpus"}, {"style": "synthetic"}):
        first = re.sub(r"\W", "", hidden(one, "zh", key="secret", **options).removeprefix("打"))
        again = hidden(two, "zh", key="secret", **options)
        same = again.split("。")[0].removeprefix("他的号码：").removeprefix("+86 ")
        assert re.sub(r"\W", "", same) == first
        assert first not in re.sub(r"[^\w另]", "", again.split("另")[1])
        assert hidden(one, "zh", key="other", **options) != hidden(one, "zh", key="secret", **options)


def test_without_a_key_nothing_is_made_that_is_alike_in_all_texts() -> None:
    for options in ({"scope": "corpus"}, {"style": "synthetic"}):
        with pytest.raises(LuhuoError, match="key"):
            hidden(ZH, "zh", **options)


def test_synthetic_values_are_valid_in_form_and_belong_to_nobody() -> None:
    def made(text: str, lang: str, kind: str) -> str:
        (span,) = [span for span in find(text, lang) if span.kind == kind]
        whole = hidden(text, lang, style="synthetic", key="k")
        return whole[span.start : len(whole) - (len(text) - span.end)]

    resident = made("身份证11010519491231002X", "zh", "id_number")
    assert is_resident_id(resident)
    assert resident.startswith("999")
    card = made("card 4111-1111-1111-1111.", "en", "bank_card")
    assert re.fullmatch(r"9999-\d{4}-\d{4}-\d{4}", card)
    assert luhn_sum(card.replace("-", "")) == 0
    iban = made("IBAN GB82 WEST 1234 5698 7654 32.", "en", "iban")
    assert re.fullmatch(r"XX\d\d \d{4} \d{4} \d{4} \d{4} \d\d", iban)
    assert iban_remainder(iban.replace(" ", "")) == 1
    assert re.fullmatch(r"154-\d{4}-\d{4}", made("手机138-1234-5678", "zh", "phone"))
    assert re.fullmatch(r"\+86 154\d{8}", made("手机+86 13812345678", "zh", "phone"))
    assert re.fullmatch(r"010-1\d{7}", made("电话010-88886666", "zh", "phone"))
    assert re.fullmatch(r"0755-1\d{7}", made("电话0755-26888888", "zh", "phone"))
    assert re.fullmatch(r"\(202\) 555-01\d\d", made("call (202) 456-1414", "en", "phone"))
    assert re.fullmatch(r"\+1-202-555-01\d\d", made("call +1-202-456-1414", "en", "phone"))
    assert re.fullmatch(r"\+44 77 0090 0\d{3}", made("call +44 20 7946 0958", "en", "phone"))
    assert re.fullmatch(r"\+99 9\d \d{6}", made("call +49 30 901820", "en", "phone"))
    assert re.fullmatch(r"\w+@example\.(com|net|org)", made("mail a@corp.com", "en", "email"))
    assert re.fullmatch(r"666-\d\d-\d{4}", made("SSN 123-45-6789", "en", "ssn"))
    assert made("车牌京A·12345", "zh", "plate").startswith("京I·")
    assert made("QQ：12345678", "zh", "qq").startswith("0")
    assert made("host 93.184.216.34", "en", "ip").startswith(("192.0.2.", "198.51.100.", "203.0.113."))
    assert made("Host 2606:2800:220:1:248:1893:25c8:1946.", "en", "ip").startswith("2001:db8:")
    assert made("full name: Mary Jones", "en", "name").endswith(" Doe")
    assert "某" in made("姓名：李雷", "zh", "name")
    assert "EXAMPLE" in made("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "en", "secret")


def test_of_the_world_with_planted_personal_data_all_is_found_and_nothing_else() -> None:
    found = make_pages(3, facts.build(3, "train"), 1e12, "dirty")
    pages = [next(found) for _ in range(420)]
    rows, labels = dirty_corpus(pages, [], random.Random(0))
    kinds: dict[str, list[bool]] = {}
    wrong = []
    for row, label in zip(rows, labels, strict=True):
        spans = {span.value for span in find(row["text"], row["lang"])}
        if label["defect"] == "personal_data":
            for value in label["values"]:
                kinds.setdefault(row["lang"], []).append(value in spans)
        elif label["defect"] == "clean" and spans:
            wrong.append(spans)
    assert set(kinds) == {"zh", "en"}
    assert all(all(hits) for hits in kinds.values())
    assert wrong == []


@real
def test_of_real_clean_text_hardly_anything_is_taken_for_personal_data() -> None:
    texts = [(row["text"], "zh") for row in rows_of("zh_laws/laws.jsonl.gz")[::4]]
    texts += [(row["text"], "zh") for row in rows_of("chinese_poetry/poems.jsonl.gz")[::20]]
    texts += [(row["question"] + row["answer"], "en") for row in rows_of("gsm8k/train.jsonl.gz")[::4]]
    texts += [(row["text"], "en") for row in rows_of("wikitext2/test_articles.jsonl.gz")[::3]]
    assert len(texts) > 5000
    assert [span for text, lang in texts for span in find(text, lang)] == []


@real
def test_of_technical_documents_addresses_in_examples_are_found_and_versions_and_tables_are_not() -> None:
    spans = [span for row in rows_of("zh_docs/docs.jsonl.gz") for span in find(row["text"], "zh")]
    assert {span.kind for span in spans} <= {"email", "qq", "ip"}
    assert sum(span.kind != "email" for span in spans) <= 5
    assert len(spans) <= 30


def rows_of(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    return [row | {"text": text_of(row)} for row in rows]


def text_of(row: dict[str, Any]) -> str:
    parts = row.get("text") or row.get("paragraphs") or row.get("rows") or row["question"]
    return parts if isinstance(parts, str) else "\n".join(map(str, parts))


# The audit


def test_a_masked_value_shows_its_form_only() -> None:
    assert masked("zhang3@corp.cn") == "xxxxx0@xxxx.xx"
    assert masked("+86 138-1234-5678") == "+00 000-0000-0000"
    assert masked("北京市中山路5号") == "某某某某某某0某"
    assert len(masked("x" * 500)) == 40


def audited(documents: list[tuple[str, str, str]]) -> Audit:
    audit = Audit()
    for text, lang, source in documents:
        audit.add(text, find(text, lang), lang, source)
    return audit


def documents() -> list[tuple[str, str, str]]:
    rng = random.Random(1)
    return [
        (f"第{n}封：手机138{rng.randrange(10**8):08d}，邮箱u{n}@corp.cn <b>", "zh", f"s{n % 3}") if n % 2
        else (f"Letter {n}: call 202-456-{rng.randrange(10**4):04d} & write", "en", "web")
        for n in range(60)
    ]  # fmt: skip


def test_the_audit_counts_by_kind_source_and_language_and_never_shows_a_value() -> None:
    texts = documents()
    report = audited([*texts, ("nothing here", "en", "web"), (ZH, "zh", "s0"), (EN, "en", "web")]).report()
    assert report["documents"] == 62
    assert report["kinds"]["email"]["languages"] == {"en": 2, "zh": 31}
    assert sum(report["kinds"]["phone"]["sources"].values()) == report["kinds"]["phone"]["spans"]
    assert all(1 <= len(kind["samples"]) <= 5 for kind in report["kinds"].values())
    shown = json.dumps(report, ensure_ascii=False)
    values = {s.value for text, lang, _ in [*texts, (ZH, "zh", ""), (EN, "en", "")] for s in find(text, lang)}
    assert len(values) > 80
    assert not [value for value in values if value in shown]
    assert set(report["kinds"]) <= set(KINDS)


def test_the_audit_is_the_same_in_any_order_and_however_the_work_is_divided() -> None:
    texts = documents()
    whole = audited(texts).state()
    assert audited(texts[::-1]).state() == whole
    parts = [audited(texts[:17]), audited(texts[17:40]), audited(texts[40:])]
    total = Audit()
    for part in parts[::-1]:
        total.merge(Audit.restored(json.loads(json.dumps(part.state()))))
    assert total.state() == whole
    assert total.report() == audited(texts).report()


def test_the_page_of_the_audit_takes_nothing_of_a_text_for_a_tag() -> None:
    text = "<script>alert(1)</script> mail a@corp.com <img src=x>"
    page = audited([(text, "en", "<source>")]).page()
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;source&gt;" in page
