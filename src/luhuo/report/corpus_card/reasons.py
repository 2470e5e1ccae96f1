"""What the codes say: why a document was dropped, and why something could not be read."""

from __future__ import annotations

from luhuo.core.language import tr
from luhuo.report.corpus_card.family import Corpus


def why_dropped(corpus: Corpus, code: str, langs: list[str]) -> str:
    """A reason in words; rules are looked up in the languages in which it occurred."""
    known = {
        "language": tr("Its language is not wanted.", "不是所需语言。"),
        "script": tr("Its script is not wanted.", "不是所需字形。"),
        "too_short": tr("Shorter than is wanted.", "短于所需长度。"),
        "benchmark": tr("Holds items of an evaluation set.", "含有评测集题目。"),
        "privacy": tr("Holds personal data.", "含有个人信息。"),
        "emptied": tr("Too little is left without what repeats elsewhere.", "删去重复内容后所剩无几。"),
        "duplicate_exact": tr("The same text is kept elsewhere.", "相同文本已在别处保留。"),
        "duplicate_near": tr("Nearly the same text is kept elsewhere.", "几乎相同的文本已在别处保留。"),
        "duplicate_semantic": tr("The same is said in a text that is kept.", "含义相同的文本已被保留。"),
    }
    if code in known:
        return known[code]
    for lang in langs:
        for rule in corpus.decider.rules_of(lang):
            if rule.reason == code:
                return rule.why or tr(f"The limits of {rule.signal}.", f"{rule.signal} 超出阈值。")
    return ""


def why_unread(code: str) -> str:
    """Why something is in quarantine, in words (docs/corpus-reading.md lists the codes); "" for another one."""
    for codes, english, chinese in _UNREAD:
        if code in codes.split():
            return tr(english, chinese)
    return ""


_UNREAD = (
    ("empty", "There is no text.", "没有文本。"),
    ("no_text", "No page has text: a scan.", "没有含文本的页面，应为扫描件。"),
    ("missing_field", "The field of the text is not there.", "缺少正文字段。"),
    ("not_text", "The field holds no text.", "字段内容不是文本。"),
    ("wrong_columns", "Another number of columns than the head.", "列数与表头不符。"),
    ("bad_encoding", "Bytes that are not in the encoding.", "含有不属于该编码的字节。"),
    (
        "bad_compression bad_zip bad_tar bad_pdf bad_docx bad_epub bad_xml bad_warc bad_parquet bad_json bad_csv",
        "Damaged or cut off.",
        "已损坏或不完整。",
    ),
    ("bad_page bad_chapter missing_chapter", "A page or chapter of a document.", "文档中的某页或某章。"),
    ("bomb", "Unpacks to more than any text would.", "解压后异常庞大。"),
    ("encrypted", "Locked with a password.", "已加密。"),
    ("line_too_long element_too_long page_too_long too_long", "Longer than can be held.", "过长。"),
    (
        "unknown_format unknown_xml unknown_compression nested_too_deep",
        "In a form that is not read.",
        "不支持的形式。",
    ),
    ("binary minified generated", "Not written by anybody.", "并非人所写。"),
    ("duplicate", "Was there before.", "此前已出现。"),
    ("too_short", "Shorter than is wanted.", "短于所需长度。"),
    ("worker_ended", "Ended the process that worked on it.", "处理它的进程意外结束。"),
    ("reader_ended", "Ended the process that read it.", "读取它的进程意外结束。"),
)
"""(codes, English, Chinese)."""
