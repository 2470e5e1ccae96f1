"""Readers of PDF, Word, EPUB, web archives and wiki dumps."""

from __future__ import annotations

import bz2
import gzip
import sys
import zlib

import pytest

from luhuo.files import plain
from luhuo.files.pdf import joined
from luhuo.files.wikitext import plain as plain_wikitext
from tests.document_cases import (
    docx,
    dump,
    epub,
    paragraph,
    pdf,
    put,
    reasons,
    records,
    response,
    texts,
    warc_record,
    web_page,
    wiki_page,
    zipped,
)

LONG = "The furnace burns pure blue, and the elixir is ready. " * 12
CHINESE = "炉火纯青是炼丹的人在丹药炼成时说的话，后来用来形容学问、技艺达到了纯熟的境界。"


# PDF


def test_chinese_pdf_is_read_and_its_lines_are_joined(tmp_path):
    lines = [
        "炉火纯青是炼丹的人在丹药炼成的时候所说",
        "的话，后来用来形容学问和技艺到了很高的",
        "境界。",
        "第二段从这里开始，它的第一行也是满满的",
        "一行。",
    ]
    (record,) = records(put(tmp_path, "a.pdf", pdf([lines])))
    assert record.text.split("\n\n") == [
        "炉火纯青是炼丹的人在丹药炼成的时候所说的话，后来用来形容学问和技艺到了很高的境界。",
        "第二段从这里开始，它的第一行也是满满的一行。",
    ]
    assert record.fields == {"pages": 1}


def test_page_numbers_and_running_titles_go_and_paragraphs_cross_pages(tmp_path):
    def lines(number: int) -> list[str]:
        letter = "abcd"[number]
        body = [f"line {i} of page {letter} is as long as all the others of it {letter * 9}" for i in range(6)]
        first = f"{letter} line that follows from the page before is here as well"
        return [
            "The Book of Furnaces",
            first,
            *body,
            f"and this last line goes on overleaf, page {letter}, where",
            f"- {number} -",
        ]

    (record,) = records(put(tmp_path, "a.pdf", pdf([lines(n) for n in range(4)])))
    assert record.text.count("The Book of Furnaces") == 1
    assert "- 2 -" not in record.text
    assert "goes on overleaf, page a, where b line that follows" in record.text


def test_lines_are_joined_as_the_script_asks():
    assert joined(["a line that is hyphen-", "ated and goes on to the end"]) == [
        "a line that is hyphenated and goes on to the end"
    ]
    assert joined(["the whole line ends with a word", "and so does the next one here"]) == [
        "the whole line ends with a word and so does the next one here"
    ]
    assert joined(["这一行写满了汉字没有句号", "下一行接着写下去直到结尾"]) == [
        "这一行写满了汉字没有句号下一行接着写下去直到结尾"
    ]
    assert len(joined(["a full line of text that goes on", "Short end.", "Another full line of text here it is"])) == 2
    assert len(joined(["- the first item of a list of items", "- the second item of a list of items"])) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a pdf at all", "bad_pdf"),
        (pdf([["text"]], encrypt=True), "encrypted"),
        (pdf([[]]), "no_text"),
        (pdf([["text"]])[:300], "bad_pdf"),
    ],
)
def test_a_pdf_without_text_says_why(tmp_path, data, reason):
    assert [r for _, r in reasons(put(tmp_path, "a.pdf", data))] == [reason]


# Word


def test_word_documents_keep_headings_lists_tables_and_notes(tmp_path):
    item = "<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>{}</w:t></w:r></w:p>"
    cell = "<w:tc>" + paragraph("{}") + "</w:tc>"
    body = (
        paragraph("书名", "Heading1")
        + paragraph("一、炉火", "2")
        + paragraph("正文", extra='<w:r><w:footnoteReference w:id="1"/></w:r><w:r><w:tab/><w:t>续</w:t></w:r>')
        + item.format("first") + item.format("second")
        + "<w:tbl><w:tr>" + cell.format("a") + cell.format("b") + "</w:tr>"
        + "<w:tr>" + cell.format("c") + cell.format("d") + "</w:tr></w:tbl>"
        + "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:t>stays</w:t></w:r>"
        + "<mc:AlternateContent xmlns:mc='m'><mc:Fallback><w:r><w:t>twice</w:t></w:r></mc:Fallback>"
        + "</mc:AlternateContent></w:p>"
    )  # fmt: skip
    (record,) = records(put(tmp_path, "a.docx", docx(body, f'<w:footnote w:id="1">{paragraph("注")}</w:footnote>')))
    assert record.text == (
        "# 书名\n\n## 一、炉火\n\n正文[1]\t续\n\n- first\n- second\n\na | b\nc | d\n\nstays\n\n[1] 注"
    )


BILLION = '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "bad_docx"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "encrypted"),
        (docx(paragraph("x"))[:-40], "bad_docx"),
        (docx(paragraph("x"), head=BILLION), "bad_docx"),
        (zipped({"other.xml": "<a/>"}), "bad_docx"),
        (docx("<w:p>"), "bad_docx"),
        (docx(""), "empty"),
        (docx("<w:p>" * 5000 + "</w:p>" * 5000), "bad_docx"),
    ],
)
def test_a_damaged_word_document_says_why(tmp_path, data, reason):
    assert [r for _, r in reasons(put(tmp_path, "a.docx", data))] == [reason]


# EPUB


def test_books_are_read_in_the_order_of_their_spine(tmp_path):
    (record,) = records(
        put(tmp_path, "a.epub", epub(["<h1>Two</h1><p>second</p>", "<h1>One</h1><p>first &amp; 第一</p>"]))
    )
    assert record.text.index("first & 第一") < record.text.index("second")
    assert record.fields == {"title": "炉火 & steel", "language": "zh"}


def test_long_books_are_divided_between_chapters(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "DOCUMENT_CHARS", 1000)
    path = put(tmp_path, "a.epub", epub([f"<p>{LONG}</p>" for _ in range(4)]))
    assert [(r.line, len(r.text) > 500) for r in records(path)] == [(1, True), (2, True), (3, True), (4, True)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zipped({"a.txt": "x"}), "bad_epub"),
        (epub(["<p>x</p>"], locked=True), "encrypted"),
        (epub(["<p>x</p>"])[:-30], "bad_epub"),
        (epub([]), "empty"),
    ],
)
def test_a_damaged_book_says_why(tmp_path, data, reason):
    assert [r for _, r in reasons(put(tmp_path, "a.epub", data))] == [reason]


# Web archives


def test_web_archives_give_the_main_text_with_address_and_date(tmp_path):
    data = (
        warc_record("warcinfo", "application/warc-fields", b"software: x")
        + response(web_page(LONG))
        + response(web_page("missing"), status="404 Not Found")
        + response(b"\x89PNG", "Content-Type: image/png")
        + warc_record("conversion", "text/plain", CHINESE.encode(), "http://b.example/")
    )
    path = put(tmp_path, "a.warc.gz", b"".join(gzip.compress(data[i : i + 700]) for i in range(0, len(data), 700)))
    first, second = records(path)
    assert first.text.strip() == LONG.strip()
    assert first.fields == {"url": "http://a.example/", "date": "2024-01-02T03:04:05Z"}
    assert (second.text, second.fields["url"], second.line) == (CHINESE, "http://b.example/", 5)
    assert reasons(path) == []


@pytest.mark.parametrize(
    ("headers", "meta", "encoding"),
    [
        ("Content-Type: text/html; charset=gb2312", "", "gbk"),
        ("Content-Type: text/html", '<meta charset="big5">', "utf-8"),  # the page lies
        ("Content-Type: text/html", '<meta http-equiv="Content-Type" content="text/html; charset=gbk">', "gbk"),
        ("Content-Type: text/html", "", "gb18030"),
    ],
)
def test_pages_say_their_encoding_and_are_not_believed_blindly(tmp_path, headers, meta, encoding):
    path = put(tmp_path, "a.warc", response(web_page(CHINESE * 5, encoding, meta), headers))
    assert CHINESE in texts(path, encoding="auto")[0]


def test_bodies_in_chunks_and_compressed_are_put_together(tmp_path):
    body = web_page(LONG)
    chunked = (
        b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + 99]), body[i : i + 99]) for i in range(0, len(body), 99))
        + b"0\r\n\r\n"
    )
    bare = zlib.compressobj(wbits=-15)
    data = (
        response(chunked, "Content-Type: text/html\r\nTransfer-Encoding: chunked")
        + response(gzip.compress(body), "Content-Type: text/html\r\nContent-Encoding: gzip")
        + response(body, "Content-Type: text/html\r\nContent-Encoding: gzip")  # unpacked before it was archived
        + response(bare.compress(body) + bare.flush(), "Content-Type: text/html\r\nContent-Encoding: deflate")
        + response(body, "Content-Type: text/html\r\nContent-Encoding: br")
    )
    path = put(tmp_path, "a.warc", data)
    assert [t.strip() for t in texts(path)] == [LONG.strip()] * 4
    assert reasons(path) == [(5, "unknown_compression")]


def test_a_damaged_web_record_does_not_end_the_reading(tmp_path):
    good = response(web_page(LONG))
    path = put(tmp_path, "a.warc", good + b"WARC/1.0\r\nWARC-Type: response\r\n\r\nrubbish\r\n" + good + good[:-400])
    assert len(texts(path)) == 2
    assert reasons(path) == [
        (2, "bad_warc"),
        (2, "bad_warc"),
        (4, "bad_warc"),
    ]  # the record, what followed it, the end
    assert reasons(put(tmp_path, "b.warc", "no archive")) == [(0, "bad_warc")]


# Wiki dumps


@pytest.mark.parametrize("packing", ["", ".bz2"])
def test_wiki_dumps_give_articles_only(tmp_path, packing):
    data = dump(
        wiki_page("炉 火", "'''炉火'''是&lt;ref&gt;x&lt;/ref&gt;[[火|火焰]]。"),
        wiki_page("Talk:炉火", "talk", ns=1),
        wiki_page("火", "#REDIRECT [[炉火]]", extra='<redirect title="炉火"/>'),
        wiki_page("空", "{{stub}}"),
    ).encode()
    path = put(tmp_path, f"a.xml{packing}", bz2.compress(data) if packing else data)
    (record,) = records(path)
    assert record.text == "炉 火\n\n炉火是火焰。"
    assert record.fields == {
        "title": "炉 火", "id": "7", "date": "2024", "lang": "zh", "url": "https://zh.example.org/wiki/%E7%82%89_%E7%81%AB",
    }  # fmt: skip
    assert reasons(path) == [(4, "empty")]


def test_other_and_damaged_xml_is_reported(tmp_path):
    assert reasons(put(tmp_path, "a.xml", "<rss><item/></rss>")) == [(0, "unknown_xml")]
    cut = dump(wiki_page("a", "text one"), wiki_page("b", "text two"))[:-60]
    path = put(tmp_path, "b.xml", cut)
    assert (len(texts(path)), reasons(path)) == (1, [(2, "bad_xml")])


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a {{t|x={{u|y}}}} b", "a b"),
        ("[[A]], [[A|b]] and [[:Category:C]] [[Category:C]][[File:x.png|thumb|see [[A]]]]", "A, b and Category:C"),
        ("x<ref name='a'>note</ref> y<ref name=\"b\" /> z", "x y z"),
        ("{|\n| a || b\n|}\ntext", "text"),
        ("== H ==\n\n=== Empty ===\n=== S ===\nbody\n== References ==\n* a\n=== more ===\nb\n== Last ==\nend",
         "## H\n\n### S\n\nbody\n\n## Last\n\nend"),
        ("* one\n## two\n: three", "- one\n- two\nthree"),
        ("清华（{{lang-en|Tsinghua}}，{{x}}）在-{zh-hans:北京;zh-hant:北平}-", "清华（Tsinghua）在北京"),
        ("<math>a < b</math> {{convert|5|km|mi}} <nowiki>[[raw]]</nowiki>", "$a < b$ 5 km [[raw]]"),
        ("[http://a.b label] [http://a.b] [mailto:a@b me] &amp;nbsp; '''''bold'''''", "label me &nbsp; bold"),
        ("}} unbalanced [[half {{open", "unbalanced half open"),
    ],
)  # fmt: skip
def test_wiki_markup_becomes_what_a_reader_sees(markup, text):
    assert plain_wikitext(markup) == text


@pytest.mark.parametrize("attack", ["<ref>", "{{", "[[", "[//", "-{", "<!--", "(", "{{{{a|", "= ", "''"])
def test_no_markup_takes_more_than_linear_work(attack):
    count = 0

    def step(*_: object):
        nonlocal count
        count += 1
        return step

    sys.settrace(step)
    plain_wikitext(attack * 2000)
    first = count
    count = 0
    plain_wikitext(attack * 8000)
    sys.settrace(None)
    assert count <= 4.5 * first + 1000
