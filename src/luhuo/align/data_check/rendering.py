"""Checks of what a model would see: the tokens that the chat template makes, and which of them are targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from luhuo.align.data_check.findings import Findings
from luhuo.align.data_check.samples import Sample
from luhuo.core.errors import LuhuoError
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.render import Rendered, render, render_all
from luhuo.dialogue.texts import render_passage
from luhuo.tokenizer.tokenizer import Tokenizer

PER_PATTERN = 25
"""Conversations with the same order of roles in which each message is looked for: a template drops by pattern."""


class RenderChecks:
    """Renders rows and counts what is wrong with the tokens. `length`: tokens of a row that is trained on."""

    def __init__(self, tokenizer: Tokenizer, length: int, findings: Findings) -> None:
        self.tokenizer, self.length, self.findings = tokenizer, length, findings
        self.supervised, self.ends, self.rendered = 0, 0, 0
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._stops = tokenizer.stop_ids
        first = tokenizer.encode_prompt("a")[:1]
        self._start = tokenizer.bos_id if first == [tokenizer.bos_id] else None

    def tokenizer_alone(self, templated: bool) -> None:
        """What is wrong before any row is read."""
        named = self.tokenizer.template_tokens
        if self.tokenizer.pad_id in self._stops or named.get("pad_token") == named.get("eos_token") is not None:
            self.findings.add("pad_is_end", excerpt=named.get("pad_token") or "")
        if templated and self.tokenizer.chat_template is None:
            self.findings.add("no_template")

    def render(self, sample: Sample, prompts: bool = False) -> list[list[Rendered]]:
        """The renderings of each of a row's conversations; those that the template refuses are counted."""
        if sample.passage is not None:
            return [[render_passage(sample.passage, self.tokenizer)]]
        if self.tokenizer.chat_template is None:
            return []
        found = []
        for conversation in sample.conversations:
            try:
                if prompts:
                    found.append([render(conversation, self.tokenizer, generation_prompt=True)])
                else:
                    found.append(list(render_all(conversation, self.tokenizer)))
            except LuhuoError as error:
                self.findings.add("template_refuses", sample.file, sample.line, str(error))
        return found

    def see(self, conversation: Conversation | None, parts: Sequence[Rendered], file: str, line: int) -> None:
        """Check the renderings of one conversation (None: plain text)."""
        if not parts:
            return
        self.rendered += 1
        for part in parts:
            self.supervised += part.targets
            self.ends += sum(t and i in self._stops for i, t in zip(part.ids, part.mask, strict=True))
        self._tokens(parts, file, line)
        if conversation is not None:
            self._messages(conversation, parts, file, line)

    def finish(self, prompts: bool) -> None:
        """What only all rows together can tell."""
        if self.rendered and not prompts:
            if not self.supervised:
                self.findings.add("nothing_to_learn")
            elif not self.ends:
                self.findings.add("end_not_trained", excerpt=self.tokenizer.decode([self.tokenizer.end_of_turn_id]))

    def _tokens(self, parts: Sequence[Rendered], file: str, line: int) -> None:
        ids, start = parts[0].ids, self.tokenizer.bos_id
        opening = self.tokenizer.decode(ids[:24])
        if start is not None and ids[:2] == [start, start]:
            self.findings.add("double_start", file, line, opening)
        elif self._start is not None and ids[:1] != [self._start] and not self.findings.counts["no_start"]:
            self.findings.add("no_start", file, line, opening)
        if any(len(part) > self.length + 1 for part in parts):
            longest = max(len(part) for part in parts)
            self.findings.add("overlong", file, line, f"{longest:,} > {self.length:,}: {opening}")
        unknown = self.tokenizer.unk_id
        if unknown is not None and any(unknown in part.ids for part in parts):
            at = next(part.ids.index(unknown) for part in parts if unknown in part.ids)
            self.findings.add("unknown_tokens", file, line, self.tokenizer.decode(ids[max(0, at - 8) : at + 4]))

    def _messages(self, conversation: Conversation, parts: Sequence[Rendered], file: str, line: int) -> None:
        """Look for each message in the text, in the first conversations of each order of roles."""
        pattern = (*(m.role for m in conversation.messages), "tools" if conversation.tools else "")
        self._seen[pattern] += 1
        if self._seen[pattern] > PER_PATTERN:
            return
        text = _joined("\n".join(self.tokenizer.decode(part.ids) for part in parts))
        for message in conversation.messages:
            if _core(message) not in text:
                self.findings.add("message_dropped", file, line, f"{message.role}: {message.content}")
                break
            named = [str(call["function"]["name"]) for call in message.tool_calls]
            if any(name not in text for name in named):
                self.findings.add("tools_dropped", file, line, f"{message.role}: {', '.join(named)}")
                break
        offered = [str(tool.get("function", tool).get("name", "")) for tool in conversation.tools]
        if any(name not in text for name in offered):
            self.findings.add("tools_dropped", file, line, ", ".join(offered))


def _core(message: Message) -> str:
    """What of a message must be found in the text: reasoning may be cut from an answer."""
    content = message.content.rsplit("</think>", 1)[-1] if message.role == "assistant" else message.content
    return _joined(content)


def _joined(text: str) -> str:
    return "".join(text.split())
