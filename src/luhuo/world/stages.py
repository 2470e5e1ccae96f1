"""The stage `world`: writes one small bilingual world with gold answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from luhuo.core.config import field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class WorldStage(Stage):
    """Write a small bilingual world: pages, dialogue, preferences, prompts, thoughts and a dirty corpus, with gold
    answers."""

    version: ClassVar[int] = 4

    megabytes: float = field(8.0, "Size of the train pages in MB.", "训练页面的大小（MB）。", gt=0, le=500)
    copybook_megabytes: float = field(
        1.0, "Size of the train copybook (repeated lines) in MB.", "训练抄写本（重复的行）的大小（MB）。", ge=0, le=100
    )
    dialogues: int = field(20_000, "Number of train dialogue items.", "训练对话条数。", ge=100)
    turns: int = field(
        4, "Most questions about one passage in a train dialogue.", "训练对话中对一段短文最多提问几次。", ge=1, le=8
    )
    valid_dialogues: int = field(500, "Number of validation dialogue items.", "验证对话条数。", ge=1)
    test_per_family: int = field(240, "Test items of each family.", "每类测试题的条数。", ge=2)
    preferences: int = field(3_000, "Number of train preference pairs.", "训练偏好对的数量。", ge=10)
    prompts: int = field(
        2_000, "Number of train prompts with a verifiable answer.", "带可验证答案的训练提示数。", ge=10
    )
    thoughts: int = field(
        1_000, "Number of train items whose reply thinks before it answers.", "先思考后作答的训练条数。", ge=10
    )
    dirty_documents: int = field(
        600, "Clean documents in the dirty corpus, before defects are added.", "脏语料中加入缺陷前的干净文档数。", ge=0
    )
    dirty_rounds: int = field(
        1,
        "How dirty it is: each round adds a bad document for about every other clean one.",
        "脏的程度：每轮约为每两篇干净文档加一篇坏文档。",
        ge=1,
        le=20,
    )

    def run(self, out: Workspace) -> None:
        """Write everything under `out.path`."""
        from luhuo.world.write import write_world

        write_world(self, out)

    def disk_bytes(self) -> int:
        """Pages and items with room to spare."""
        rows = self.dialogues + self.preferences + self.prompts + self.thoughts
        return int(self.megabytes * 1.6e6 + rows * 1200 + 30e6)
