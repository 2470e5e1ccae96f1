"""The list of stages: name -> where its config class lives. Everything else is derived from that class."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from luhuo.core.config import unknown_key
from luhuo.core.language import tr
from luhuo.core.stage import Stage


@dataclass(frozen=True)
class Entry:
    """Where a stage lives, and its one-line summary (kept here so that `luhuo --help` imports no room)."""

    target: str
    en: str
    zh: str

    @property
    def summary(self) -> str:
        """The summary in the user's language."""
        return tr(self.en, self.zh)


STAGES = {
    "world": Entry(
        "luhuo.world.stages:WorldStage",
        "Write a small bilingual world with gold answers.",
        "生成一个带标准答案的双语小世界。",
    ),
    "corpus": Entry(
        "luhuo.corpus.stages:CorpusStage",
        "Read, normalise, deduplicate and split raw text.",
        "读取、规范化、去重并切分原始文本。",
    ),
    "annotate": Entry(
        "luhuo.corpus.factory.stages:AnnotateStage",
        "Read raw text, tell its language and measure it; nothing is deleted.",
        "读取原始文本，识别语言并测量各项信号；不删除任何内容。",
    ),
    "filter": Entry(
        "luhuo.corpus.factory.stages:FilterStage",
        "Decide by rules what is kept of annotated text, and write a corpus.",
        "按规则决定保留哪些已标注文本，并写出语料。",
    ),
    "deduplicate": Entry(
        "luhuo.corpus.dedup.stages:DeduplicateStage",
        "Find exact, near, partial and semantic duplicates among annotated records.",
        "在标注后的记录中查找精确、近似、局部与语义重复。",
    ),
    "ngram-lm": Entry(
        "luhuo.corpus.signals.stages:NgramLmStage",
        "Train a character n-gram model; its perplexity is a signal of quality.",
        "训练字符 n-gram 模型；其困惑度是一种质量信号。",
    ),
    "text-classifier": Entry(
        "luhuo.corpus.signals.stages:TextClassifierStage",
        "Train a classifier of texts on labelled examples; its score is a signal.",
        "用带标签的样本训练文本分类器；其分数是一种信号。",
    ),
    "media": Entry(
        "luhuo.corpus.media.stages:MediaStage",
        "A manifest of images and audio with captions, sizes and duplicates.",
        "图片与音频清单：配对说明、尺寸、时长与重复。",
    ),
    "tokenizer": Entry("luhuo.tokenizer.stages:TokenizerStage", "Train a tokenizer.", "训练分词器。"),
    "shards": Entry(
        "luhuo.corpus.stages:ShardsStage",
        "Tokenise a corpus into memory-mapped shards.",
        "把语料分词为内存映射的分片。",
    ),
    "pretrain": Entry("luhuo.train.stages:PretrainStage", "Train a base language model.", "训练基座语言模型。"),
    "mixture-search": Entry(
        "luhuo.train.mixture_stages:MixtureSearchStage",
        "Search for shares of sources with small models (RegMix).",
        "用小模型搜索各来源的配比（RegMix）。",
    ),
    "scaling-run": Entry(
        "luhuo.train.scaling.stages:ScalingRunStage",
        "Train one size at several token counts.",
        "训练一种规模，并测量多个词元数下的损失。",
    ),
    "scaling-law": Entry(
        "luhuo.train.scaling.stages:ScalingLawStage",
        "Fit a scaling law and recommend size and tokens.",
        "拟合缩放定律并建议规模与词元数。",
    ),
    "clean-dialogue": Entry(
        "luhuo.dialogue.clean.stages:CleanDialogueStage",
        "Drop faulty, repeated and contradictory instruction data; choose the best.",
        "清除有缺陷、重复、矛盾的指令数据，并择优选取。",
    ),
    "instructions": Entry(
        "luhuo.dialogue.instructions.stages:InstructionsStage",
        "Labelled data to conversations, through templates in several wordings (FLAN).",
        "用多种表述的模板把带标签数据转换为对话（FLAN）。",
    ),
    "difficulty": Entry(
        "luhuo.align.difficulty_stages:DifficultyStage",
        "How much an instruction helps a model to its answer (IFD), for choosing data.",
        "测量指令对模型预测回答的帮助（IFD），用于挑选数据。",
    ),
    "sft": Entry("luhuo.align.stages:SftStage", "Fine-tune a model on conversations.", "用对话数据微调模型。"),
    "control": Entry(
        "luhuo.align.control.stages:ControlStage",
        "Tell in each row what its answers are like, to ask for it later (CTRL, SteerLM).",
        "为每行数据标注回答的属性，以便日后按属性控制（CTRL、SteerLM）。",
    ),
    "control-scores": Entry(
        "luhuo.align.control.stages:ControlScoresStage",
        "Measure how often a model obeys control attributes.",
        "测量模型遵从控制属性的比例。",
    ),
    "dpo": Entry(
        "luhuo.align.preference_stages:DpoStage",
        "Learn from preferred and rejected answers (DPO and its kin).",
        "从更好与更差的回答对中学习（DPO 及同类）。",
    ),
    "kto": Entry(
        "luhuo.align.preference_stages:KtoStage",
        "Learn from single answers judged good or bad (KTO).",
        "从单个回答的好坏判断中学习（KTO）。",
    ),
    "orpo": Entry(
        "luhuo.align.preference_stages:OrpoStage",
        "Fine-tune and learn preferences in one step (ORPO).",
        "微调与偏好学习一步完成（ORPO）。",
    ),
    "simpo": Entry(
        "luhuo.align.preference_stages:SimpoStage",
        "Learn preferences without a reference, by mean log-probability (SimPO).",
        "无参考模型、以平均对数概率学习偏好（SimPO）。",
    ),
    "cpo": Entry(
        "luhuo.align.preference_stages:CpoStage",
        "Learn preferences without a reference, held back by fine-tuning (CPO).",
        "无参考模型、以微调项约束的偏好学习（CPO）。",
    ),
    "grpo": Entry(
        "luhuo.align.grpo_stage:GrpoStage",
        "Reinforcement learning from rewards, with groups of answers.",
        "以成组回答的奖励进行强化学习。",
    ),
    "ppo": Entry(
        "luhuo.align.ppo_stage:PpoStage",
        "Reinforcement learning with a critic (PPO).",
        "带价值网络的强化学习（PPO）。",
    ),
    "reward": Entry(
        "luhuo.align.reward_stage:RewardStage",
        "Train a reward model on comparisons, labels, scores or steps.",
        "用比较、标签、分数或步骤数据训练奖励模型。",
    ),
    "rrhf": Entry(
        "luhuo.align.preference_stages:RrhfStage",
        "Learn from several scored answers a prompt (RRHF).",
        "从每个提示的多个带分回答中学习（RRHF）。",
    ),
    "online-dpo": Entry(
        "luhuo.align.online_dpo_stage:OnlineDpoStage",
        "Learn preferences among the policy's own answers.",
        "在策略自己的回答之间学习偏好。",
    ),
    "rejection": Entry(
        "luhuo.align.rejection:RejectionStage",
        "Best of n: sample, score, and keep what is good as data.",
        "n 选优：采样、评分，把好的回答留作数据。",
    ),
    "proxy-tuning": Entry(
        "luhuo.adapter.stages:ProxyTuningStage",
        "Steer a large model by a small one that was tuned (at decoding time).",
        "用调优过的小模型在解码时引导大模型（代理调优）。",
    ),
    "distill": Entry(
        "luhuo.align.distill.stages:DistillStage",
        "Learn what a teacher holds likely, token by token.",
        "逐词元学习教师的分布（知识蒸馏）。",
    ),
    "pretrain-distill": Entry(
        "luhuo.align.distill.pretraining_stage:PretrainDistillStage",
        "Pretrain a decoder or an encoder with a teacher.",
        "在教师指导下预训练解码器或编码器。",
    ),
    "online-distill": Entry(
        "luhuo.align.distill.stages:OnlineDistillStage",
        "Learn from a teacher on the student's own answers (GKD, MiniLLM).",
        "在学生自己的回答上向教师学习（GKD、MiniLLM）。",
    ),
    "teacher-answers": Entry(
        "luhuo.align.distill.stages:TeacherAnswersStage",
        "A teacher's answers as data for sft (sequence-level distillation).",
        "以教师的回答作为 sft 数据（序列级蒸馏）。",
    ),
    "teacher-logits": Entry(
        "luhuo.align.distill.stages:TeacherLogitsStage",
        "Keep a teacher's likeliest tokens for distill.",
        "保存教师最可能的词元，供 distill 使用。",
    ),
    "constitutional": Entry(
        "luhuo.align.ai_feedback.stages:ConstitutionalStage",
        "Answers criticised and revised by principles, as data (Constitutional AI).",
        "按原则批评并修改回答，得到训练数据（宪法式 AI）。",
    ),
    "ai-feedback": Entry(
        "luhuo.align.ai_feedback.stages:AiFeedbackStage",
        "Have a model judge which of two answers is better (RLAIF).",
        "由模型评判两个回答的优劣（RLAIF）。",
    ),
    "synthetic-comparisons": Entry(
        "luhuo.align.ai_feedback.stages:SyntheticComparisonsStage",
        "Preference data from better and worse models (ALMoST).",
        "由强弱不同的模型生成偏好数据（ALMoST）。",
    ),
    "prune": Entry(
        "luhuo.compress.prune.stages:PruneStage",
        "Take away what a model needs least: weights, layers, heads, channels, features.",
        "剪去模型最不需要的部分：权重、层、头、通道、特征。",
    ),
    "factorise": Entry(
        "luhuo.compress.low_rank.stage:FactoriseStage",
        "Keep the matrices of a decoder as products of two thin ones (SVD, ASVD, SVD-LLM).",
        "把解码器的矩阵分解为两个瘦矩阵之积（SVD、ASVD、SVD-LLM）。",
    ),
    "lqer": Entry(
        "luhuo.compress.low_rank.lqer_stage:LqerStage",
        "Give back what rounding took, as an adapter of low rank on a quantised model (LQER).",
        "以低秩适配器补回量化模型的舍入误差（LQER）。",
    ),
    "share-layers": Entry(
        "luhuo.compress.layer_sharing_stage:ShareLayersStage",
        "Let layers of a decoder share their weights, to be trained on.",
        "让解码器的若干层共享权重，再继续训练。",
    ),
    "trim-vocabulary": Entry(
        "luhuo.compress.vocabulary_stage:TrimVocabularyStage",
        "Drop the tokens that a language or domain does not use.",
        "删去某种语言或领域用不到的词元。",
    ),
    "quantize": Entry(
        "luhuo.compress.quantise_stage:QuantizeStage",
        "Keep a model's matrices in 8, 4, 3 or 2 bits.",
        "把模型的矩阵量化到 8、4、3 或 2 位。",
    ),
    "evaluate": Entry(
        "luhuo.evaluation.stages:EvaluateStage", "Measure bits per byte and accuracy.", "测量每字节比特数与准确率。"
    ),
    "compression-measure": Entry(
        "luhuo.evaluation.compression_stages:CompressionMeasureStage",
        "What a compressed model lost against its original, and what it gained in size, memory and speed.",
        "压缩后的模型比原模型损失了什么，在大小、内存与速度上得到了什么。",
    ),
    "contamination": Entry(
        "luhuo.evaluation.contamination_stages:ContaminationStage",
        "Find test items in training text (n-grams).",
        "在训练文本中查找测试题（n-gram 重叠）。",
    ),
    "membership": Entry(
        "luhuo.evaluation.contamination_stages:MembershipStage",
        "Does a model know texts better than held-out twins (Min-K%).",
        "模型对某些文本是否比留出的对照更熟悉（Min-K%）。",
    ),
    "compare": Entry(
        "luhuo.evaluation.stages:CompareStage", "Compare two evaluations item by item.", "逐题比较两次评测。"
    ),
    "judge": Entry(
        "luhuo.evaluation.judges.stages:JudgeStage",
        "Have judges compare or rate models' answers, in both orders, with win rates and intervals.",
        "由评判者比较模型回答（双向顺序）或评分，给出胜率与区间。",
    ),
    "judge-validation": Entry(
        "luhuo.evaluation.judges.stages:JudgeValidationStage",
        "Measure how far judges agree with people before they judge.",
        "在评判之前，测量评判者与人的一致性。",
    ),
}


def stage_class(name: str, where: str | None = None) -> type[Stage]:
    """The config class of a stage. Raises `LuhuoError` with the nearest name if there is none."""
    if name not in STAGES:
        raise unknown_key(name, sorted(STAGES), where, tr("stage", "阶段"))
    module, _, cls = STAGES[name].target.partition(":")
    return getattr(import_module(module), cls)


def configured(name: str, values: dict[str, Any], where: str | None = None) -> Stage:
    """A stage from plain values; short names of models among its inputs become the references they stand for, so that
    the manifest says exactly what was taken. Raises `LuhuoError`."""
    from luhuo.files.references import expand

    return stage_class(name, where).parse(values, where=where).map_inputs(expand)
