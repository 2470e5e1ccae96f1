"""One line for each encoder and encoder-decoder family, and for each variant that takes another way through the code.

`ENCODER_CASES` are run by `encoder_checks.run_encoder`, `ENCODER_DECODER_CASES` by `run_encoder_decoder`.
"""

from __future__ import annotations

from typing import Any

from tests.encoder_layouts import CPM2
from tests.family_checks import SMALL, Case

BERT = {**SMALL, "type_vocab_size": 2}
ALBERT = {**BERT, "embedding_size": 16}
DISTIL = {"vocab_size": 97, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 128,
          "initializer_range": 0.2}  # fmt: skip
DEBERTA = {**SMALL, "relative_attention": True, "pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm"}
DEBERTA3 = {**DEBERTA, "position_buckets": 8, "share_att_key": True, "position_biased_input": False}
MODERN = {**SMALL, "num_hidden_layers": 5, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2}
BIASED = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True, "decoder_bias": False}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
PLAIN = {"rope_type": "default", "rope_theta": 50.0}
THREE = {"num_labels": 3}
QA, CLASSES, TOKENS = "ForQuestionAnswering", "ForSequenceClassification", "ForTokenClassification"


T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4,
      "initializer_factor": 1.2, "decoder_start_token_id": 0}  # fmt: skip
GATED = {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def case(family: str, reference: str, settings: dict[str, Any], models: str = "", **more: Any) -> Case:
    """A case; `more` are further settings."""
    return Case(family, reference, {**settings, **more}, models)


ENCODER_CASES = {
    "bert": case("bert", "BertForMaskedLM", BERT, "BERT, RoBERTa-wwm and MacBERT (Chinese), MiniLM, BGE, E5, GTE"),
    "bert-bare": case("bert", "BertModel", BERT),
    "bert-pretraining": case("bert", "BertForPreTraining", BERT, hidden_act="gelu_new"),
    "bert-next-sentence": case("bert", "BertForNextSentencePrediction", BERT),
    "bert-classes": case("bert", "Bert" + CLASSES, BERT, **THREE),
    "bert-tokens": case("bert", "Bert" + TOKENS, BERT, hidden_act="relu", **THREE),
    "bert-answer": case("bert", "Bert" + QA, BERT),
    "roberta": case("roberta", "RobertaForMaskedLM", BERT, "RoBERTa", type_vocab_size=1, pad_token_id=1),
    "roberta-bare": case("roberta", "RobertaModel", BERT),
    "roberta-classes": case("roberta", "Roberta" + CLASSES, BERT, **THREE),
    "roberta-tokens": case("roberta", "Roberta" + TOKENS, BERT),
    "xlm-roberta": case("xlm_roberta", "XLMRobertaForMaskedLM", BERT, "XLM-RoBERTa, multilingual E5, BGE-M3"),
    "xlm-roberta-answer": case("xlm_roberta", "XLMRoberta" + QA, BERT, type_vocab_size=1),
    "albert": case("albert", "AlbertForPreTraining", ALBERT, "ALBERT 1 and 2"),
    "albert-groups": case("albert", "AlbertForMaskedLM", ALBERT, num_hidden_groups=2, inner_group_num=2),
    "albert-bare": case("albert", "AlbertModel", ALBERT, hidden_act="gelu"),
    "albert-classes": case("albert", "Albert" + CLASSES, ALBERT, **THREE),
    "albert-tokens": case("albert", "Albert" + TOKENS, ALBERT),
    "t5-encoder": case("t5_encoder", "T5EncoderModel", T5, "T5's encoder", feed_forward_proj="gated-gelu"),
    "electra": case("electra", "ElectraForPreTraining", ALBERT, "ELECTRA"),
    "electra-generator": case("electra", "ElectraForMaskedLM", ALBERT, embedding_size=32),
    "electra-classes": case("electra", "Electra" + CLASSES, ALBERT, **THREE),
    "distilbert": case("distilbert", "DistilBertForMaskedLM", DISTIL, "DistilBERT"),
    "distilbert-classes": case("distilbert", "DistilBert" + CLASSES, DISTIL, **THREE),
    "distilbert-answer": case("distilbert", "DistilBert" + QA, DISTIL),
    "deberta-v2": case("deberta_v2", "DebertaV2ForMaskedLM", DEBERTA, "DeBERTa-v2", position_buckets=8,
                       conv_kernel_size=3, conv_act="gelu"),
    "deberta-v2-exact": case("deberta_v2", "DebertaV2" + CLASSES, DEBERTA, max_relative_positions=16, **THREE,
                             norm_rel_ebd="none", type_vocab_size=2),
    "deberta-v2-c2p": case("deberta_v2", "DebertaV2" + QA, DEBERTA, pos_att_type=["c2p"], conv_kernel_size=5),
    "deberta-v3": case("deberta_v2", "DebertaV2Model", DEBERTA3, "DeBERTa-v3, mDeBERTa"),
    "deberta-v3-tokens": case("deberta_v2", "DebertaV2" + TOKENS, DEBERTA3, **THREE),
    "modernbert": case("modernbert", "ModernBertForMaskedLM", MODERN, "ModernBERT, GTE-ModernBERT"),
    "modernbert-bare": case("modernbert", "ModernBertModel", MODERN, **BIASED),
    "modernbert-biases": case("modernbert", "ModernBertForMaskedLM", MODERN, **BIASED),
    "modernbert-mean": case("modernbert", "ModernBert" + CLASSES, MODERN, classifier_pooling="mean", **THREE),
    "modernbert-classes": case("modernbert", "ModernBert" + CLASSES, MODERN, classifier_activation="relu", **BIASED),
    "modernbert-tokens": case("modernbert", "ModernBert" + TOKENS, MODERN, hidden_activation="silu", **THREE),
    "modernbert-long": case("modernbert", "ModernBert" + QA, MODERN,
                            rope_parameters={"full_attention": YARN, "sliding_attention": PLAIN}),
}  # fmt: skip

BART = {"vocab_size": 97, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "max_position_embeddings": 64,
        "init_std": 0.2}  # fmt: skip

ENCODER_DECODER_CASES = {
    "t5": case("t5", "T5ForConditionalGeneration", T5, "T5"),
    "t5-buckets": case("t5", "T5ForConditionalGeneration", T5, relative_attention_num_buckets=8,
                       relative_attention_max_distance=12),
    "t5-1.1": case("t5", "T5ForConditionalGeneration", GATED, "T5 1.1, Flan-T5", num_decoder_layers=3),
    "t5-gated-silu": case("t5", "T5ForConditionalGeneration", T5, feed_forward_proj="gated-silu"),
    "cpm-2": Case("cpm2", "T5ForConditionalGeneration", {**GATED, "num_decoder_layers": 3}, "CPM-2", layout=CPM2),
    "mt5": case("mt5", "MT5ForConditionalGeneration", GATED, "mT5"),
    "bart": case("bart", "BartForConditionalGeneration", BART, "BART, Chinese BART"),
    "bart-scaled": case("bart", "BartForConditionalGeneration", BART, scale_embedding=True,
                        activation_function="relu"),
    "mbart": case("mbart", "MBartForConditionalGeneration", BART, "mBART, mBART-50", scale_embedding=True,
                  decoder_start_token_id=3),
}  # fmt: skip
