"""What is wrong with one answer, as far as its text and that of its question tell."""

# ruff: noqa: E501 (alternatives of a pattern, and a text in two languages, stay on one line)
from __future__ import annotations

import re
from dataclasses import dataclass

from luhuo.corpus.decontaminate.ngrams import units_of
from luhuo.dialogue.clean import texts

OPENING = 160
"""Characters of an answer in which it says that it will not answer."""
SHORT_REFUSAL = 500
"""Characters up to which an answer with such an opening is nothing else; a Chinese character counts as two and a half."""
SHORT_ASKING = 240
"""Characters up to which an answer that asks for what is missing is nothing else."""

_CANNOT = r"(?:can(?:'|’)?t|can ?not|could(?:n't|n’t| not)|won(?:'|’)t|will not|(?:am|'m|’m) (?:not able|unable)|unable|do(?:n't|n’t| not) (?:have|know|possess))"
_ACT = (
    r"(?:help|assist|provide|fulfil|comply|answer|create|generate|write|engage|support|give|discuss|complete|access"
    r"|browse|see|view|do|offer|respond|participate|share|make|tell|predict)"
)
_AI_EN = r"(?:an? )?(?:large )?(?:AI|A\.I\.|artificial intelligence|language model)(?: language)?(?: model| assistant| chatbot)?"
_AI_ZH = r"(?:一[个個名款种種位])?(?:(?:大型?)?(?:语言|語言)模型|人工智[能慧](?:语言模型|語言模型|助手|模型|程序)?|AI(?:语言模型|語言模型|助手|模型)?|智能助手|聊天机器人|聊天機器人|机器人|機器人)"
REFUSAL = re.compile(
    rf"(?:I(?:'m| am|’m) (?:very |so |really |terribly )?(?:sorry|afraid)|I apologi[sz]e|sorry|unfortunately|my apologies)[^.!?\n]{{0,80}}?\b{_CANNOT}\b"
    rf"|^[^.\n]{{0,40}}?\bas {_AI_EN}[^.\n]{{0,60}}?\b{_CANNOT}\b"
    rf"|^(?:I|We) (?:{_CANNOT}|must decline to|have to decline to|refuse to) (?:to )?{_ACT}\b"
    r"|^(?:很|非常|十分|实在|真的)?(?:抱歉|对不起|對不起|不好意思|遗憾|遺憾)[^。！？\n]{0,40}?(?:无法|無法|不能|没有办法|沒有辦法|没办法|不可以|没法|拒绝|拒絕|不便|不会为)"
    rf"|^[^。\n]{{0,12}}?(?:作为|作為|身为|身為|我(?:只)?是){_AI_ZH}[^。\n]{{0,30}}?(?:无法|無法|不能|没有|沒有|不具备|不具備|不会|不會)"
    r"|^我(?:无法|無法|不能|没办法|不可以|不會|拒绝|拒絕)(?:回答|提供|帮助|幫助|协助|協助|完成|生成|满足|參與|参与|支持|执行|讨论|討論|访问|为您|为你)",
    re.IGNORECASE,
)
"""Openings of an answer that is none."""
BOILERPLATE = re.compile(
    rf"\bas {_AI_EN}\b|I(?:'m| am|’m) (?:just |only )?{_AI_EN}\b|(?:作为|作為|身为|身為){_AI_ZH}|^我(?:只)?是{_AI_ZH}",
    re.IGNORECASE,
)
"""Openings that speak of the assistant where nobody asked."""
ABOUT_ITSELF = re.compile(
    r"\b(?:who|what) are you\b|\byour(?:self| name| creator| developer)\b|\b(?:created|built|made|trained|developed|designed|programmed) you\b|\byou have a name\b|\bare you\b|\b(?:AI|artificial intelligence|language model|chatbot|robot|GPT)\b"
    r"|你是|你叫|您是|你会|你能|你有|自我介绍|人工智能|语言模型|機器人|机器人|聊天机|智能助手|(?<![A-Za-z])AI(?![A-Za-z])|你的(?:名字|开发|身份)",
    re.IGNORECASE,
)
"""Questions about the assistant, which may be answered so."""
APOLOGY = re.compile(
    r"apolog|sorry|regret|refus|declin|reject|遗憾|道歉|致歉|抱歉|对不起|歉意|拒绝|婉拒|谢绝", re.IGNORECASE
)
"""Questions that ask for such words."""

NOTHING = re.compile(
    r"[\W_]*(?:n/a|null|nan|nil|undefined|no ?(?:output|answer|response|input)|<?no ?(?:input|output)>?|to ?do|tbd|\[?(?:insert|your)? ?(?:answer|response|text) here\]?"
    r"|略|待补充|待完善|此处省略|暂无(?:答案|回答|内容)?|无输出|无答案)?[\W_]*",
    re.IGNORECASE,
)
"""Whole answers that say nothing."""
ASKS_BACK = re.compile(
    r"\b(?:please|could you|can you|would you|kindly) (?:please )?(?:provide|share|specify|supply|send|paste|include|clarify)\b"
    r"|\bno (?:input|text|passage|context|article|image|file|sentence)s? (?:was |were |has been |have been |is )?(?:provided|given|included|attached)\b"
    r"|\byou (?:have not|haven't|did not|didn't) (?:provided?|included?|specif\w+|attach\w*|given?)\b"
    r"|请(?:您|你)?(?:先)?(?:提供|给出|补充|输入|上传|粘贴|发送|说明)(?:一下|更多|具体|相关|详细|需要|完整|您|你|要|所|待|一)"
    r"|(?:没有|未|並未|并未|没)(?:提供|给出|上传|附上|看到|收到)(?:任何|相关|具体|需要|您|你|要)*(?:的)?(?:文本|内容|文章|图片|信息|上下文|材料|输入|句子|段落|文字|数据|代码)",
    re.IGNORECASE,
)
"""Answers that ask for what the question should have held."""
REPEAT_ASKED = re.compile(
    r"repeat|copy|echo|verbatim|rewrite|correct|proofread|translat|重复|复述|抄写|照抄|原样|改写|修改|纠正|润色|翻译|校对",
    re.IGNORECASE,
)

LONG_FORM = re.compile(
    r"^(?:please |can you |could you |kindly )?(?:write|compose|draft|create|produce|craft)\b[^.?!\n]{0,60}?\b(?:essay|story|article|blog|poem|letter|e-?mail|speech|report|script|review|paragraphs?|song|proposal)\b"
    r"|^(?:请|帮我|请你|请为|为我|给我|帮忙|麻烦)*(?:你)?(?:写|撰写|创作|起草|编)(?:出)?一?(?:篇|首|封|份|则)",
    re.IGNORECASE,
)
EXPLAINS = re.compile(
    r"^(?:please |can you |could you )?(?:explain|describe|discuss|elaborate|compare and contrast|give an overview)\b"
    r"|^(?:请|请你|帮我|麻烦)*(?:详细|具体)?(?:解释|描述|阐述|介绍|论述)",
    re.IGNORECASE,
)
BRIEF = re.compile(
    r"\b(?:titles?|headlines?|sentences?|taglines?|slogans?|haiku|tweets?|captions?|subject|lines?|words?|names?|topics?|short|brief|briefly|concise|summar\w+|couplet|quote)\b"
    r"|标题|题目|一句|句话|一行|[单两]行|短诗|俳句|绝句|四行|对联|口号|简短|简要|简述|名字|名称|主题句|(?<!\d)\d{1,2}个?字|[一二三四五六七八九十]个?字|[一二三四五六\d]个词|提纲|要点",
    re.IGNORECASE,
)
"""Questions of which a few words are a full answer."""
LONG_UNITS, EXPLAIN_UNITS = {"words": 20, "han": 24}, {"words": 5, "han": 7}
"""Words, or Han characters, that such an answer has at least."""
WANTED = re.compile(
    r"(?P<cap>(?:at most|no more than|not more than|less than|fewer than|under|within|up to|maximum(?: of)?|max|limit\w*(?: it)?(?: to)?|below)\s+)?(?P<n>\d{2,5})[- ]?(?:to \d+ |-\d+ )?words?\b"
    r"|(?P<capzh>不超过|不多于|(?<!不)少于|(?<!不)小于|最多|控制在|限|限制在|不要超过)?\s?(?P<nzh>\d{2,5})\s?个?(?:汉)?字(?P<behind>以内|之内|以下|内)?",
    re.IGNORECASE,
)
WANTED_SHARE = 0.4
"""Of the length that was asked for."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, as a code of `REASONS`, and where that shows."""

    code: str
    shown: str


def fault_of(question: str, answer: str, instructions: str = "", *, alone: bool = True) -> Fault | None:
    """The first fault of an answer. `alone`: nothing was said before the question, so that asking back is no answer."""
    if not question.strip():
        return Fault("empty_question", answer[:80])
    if NOTHING.fullmatch(answer.strip()[:80]) and len(answer.strip()) <= 80 and not _is_plain_mark(question, answer):
        return Fault("unanswered", answer[:80])
    return (
        _unwilling(question, answer)
        or _unanswered(question, answer, alone=alone)
        or _damaged(question, answer, instructions)
        or _too_short(question, answer)
    )


def _is_plain_mark(question: str, answer: str) -> bool:
    """Whether an answer of marks alone can be meant: emoji, operators and the like, where they were asked for."""
    mark = answer.strip()
    return bool(mark) and not any(c.isalnum() for c in mark) and (set(mark) - set(".…-—_?？!！。 ")) != set()


def _unwilling(question: str, answer: str) -> Fault | None:
    opening = answer.lstrip()[:OPENING]
    refused = REFUSAL.search(opening)
    spoken = BOILERPLATE.search(opening)
    if not refused and not spoken:
        return None
    meant = APOLOGY.search(question) or (spoken is not None and ABOUT_ITSELF.search(question))
    if refused and not meant and _width(answer) <= SHORT_REFUSAL:
        return Fault("refusal", refused[0])
    if spoken and not ABOUT_ITSELF.search(question):
        return Fault("boilerplate", spoken[0])
    return None


def _unanswered(question: str, answer: str, *, alone: bool) -> Fault | None:
    asks = ASKS_BACK.search(answer) if alone and _width(answer) <= SHORT_ASKING else None
    if asks and not LONG_FORM.search(question.strip()):
        return Fault("unanswered", asks[0])
    if len(question) < 2 * len(answer) + 20 and not REPEAT_ASKED.search(question):
        said, asked = units_of(answer).hashes, units_of(question).hashes
        if len(said) >= 4 and len(said) == len(asked) and (said == asked).all():
            return Fault("unanswered", answer[:80])
    return None


def _damaged(question: str, answer: str, instructions: str) -> Fault | None:
    if (spoilt := texts.mojibake(answer)) is not None:
        return Fault("mojibake", spoilt)
    if (control := texts.control_text(answer, ())) is not None:
        return Fault("template_text", control)
    if texts.cut_off(answer):
        return Fault("truncated", answer[-60:])
    languages = texts.in_other_language(question, answer, instructions)
    return Fault("other_language", languages) if languages else None


def _too_short(question: str, answer: str) -> Fault | None:
    asked = question.strip()
    least = LONG_UNITS if LONG_FORM.search(asked) else EXPLAIN_UNITS if EXPLAINS.search(asked) else None
    least = None if BRIEF.search(asked) else least
    wanted = WANTED.search(asked)
    if least is None and wanted is None:
        return None
    units = units_of(answer)
    han = int(units.han.sum())
    words = len(units) - han
    if least is not None and words + han * least["words"] / least["han"] < least["words"]:
        return Fault("too_short", f"{len(units)}")
    if wanted and LONG_FORM.search(asked) and not (wanted["cap"] or wanted["capzh"] or wanted["behind"]):
        number = int(wanted["n"] or wanted["nzh"])
        if len(units) < WANTED_SHARE * number:
            return Fault("too_short", f"{len(units)} < {number}")
    return None


def _width(text: str) -> float:
    """Characters as Latin script counts them."""
    return sum(2.5 if character >= "\u3400" else 1 for character in text[: SHORT_REFUSAL + 1])
