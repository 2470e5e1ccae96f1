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
    """Why something is in quarantine, in words."""
    return {
        "empty": tr("There is no text.", "没有文本。"),
        "no_text": tr("There is no text.", "没有文本。"),
        "bad_json": tr("No valid JSON.", "不是有效的 JSON。"),
        "bad_csv": tr("No valid CSV.", "不是有效的 CSV。"),
        "wrong_columns": tr("Another number of columns than the head.", "列数与表头不符。"),
        "bad_parquet": tr("No valid Parquet.", "不是有效的 Parquet。"),
        "bad_encoding": tr("Not text in its encoding.", "不是该编码的文本。"),
        "bad_compression": tr("Damaged compression.", "压缩数据损坏。"),
        "missing_field": tr("The field of the text is not there.", "缺少正文字段。"),
        "not_text": tr("The field holds no text.", "字段内容不是文本。"),
        "line_too_long": tr("A line longer than can be held.", "行过长。"),
        "element_too_long": tr("An element longer than can be held.", "元素过长。"),
        "page_too_long": tr("A page longer than can be held.", "页面过长。"),
        "unknown_format": tr("No format that is known.", "未知格式。"),
        "encrypted": tr("Locked with a password.", "已加密。"),
        "bomb": tr("Unpacks to more than any text would.", "解压后异常庞大。"),
        "binary": tr("Not text at all.", "不是文本。"),
        "duplicate": tr("Was there before.", "此前已出现。"),
        "too_short": tr("Shorter than is wanted.", "短于所需长度。"),
        "worker_ended": tr("Ended the process that worked on it.", "处理它的进程意外结束。"),
        "reader_ended": tr("Ended the process that read it.", "读取它的进程意外结束。"),
    }.get(code, "")
