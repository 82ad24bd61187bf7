"""The tensors' names of the families that tlx has, each read by the family's config as `names`."""

import dataclasses

from tlx.models.names import IMAGE, IMAGE_CLASSES, OF_IMAGES, OLDER, ONE_LAYER, TEACHER, Names

BERT = Names(
    stem="Bert",
    prefix="bert.",
    heads={
        "ForSequenceClassification": {"output": "classifier"},
        **ONE_LAYER,
        "ForMaskedLM": {
            "transform/dense": "cls.predictions.transform.dense",
            "transform/LayerNorm": "cls.predictions.transform.LayerNorm",
            "": "cls.predictions",
        },
    },
    skipped=r"(bert\.)?embeddings\.(position_ids|token_type_ids)|cls\.predictions\.decoder\.(weight|bias)",
    decoder="cls.predictions.decoder",
    others=r"cls\.seq_relationship\..*",
    pretrained_as="ForPreTraining",
)

ROBERTA = Names(
    stem="Roberta",
    prefix="roberta.",
    heads={
        "ForSequenceClassification": {"dense": "classifier.dense", "output": "classifier.out_proj"},
        **ONE_LAYER,
        "ForMaskedLM": {
            "transform/dense": "lm_head.dense",
            "transform/LayerNorm": "lm_head.layer_norm",
            "": "lm_head",
        },
    },
    skipped=r"(roberta\.)?embeddings\.(position_ids|token_type_ids)|lm_head\.decoder\.(weight|bias)",
    decoder="lm_head.decoder",
)

ELECTRA = Names(
    stem="Electra",
    prefix="electra.",
    heads={
        "ForSequenceClassification": {"dense": "classifier.dense", "output": "classifier.out_proj"},
        **ONE_LAYER,
        "ForMaskedLM": {
            "transform/dense": "generator_predictions.dense",
            "transform/LayerNorm": "generator_predictions.LayerNorm",
            "": "generator_lm_head",
        },
        "ForMultipleChoice": {"dense": "sequence_summary.summary", "output": "classifier"},
    },
    skipped=r"(electra\.)?embeddings\.(position_ids|token_type_ids)|generator_lm_head\.weight",
    decoder="generator_lm_head",
    others=r"discriminator_predictions\..*",
)

_DISTILBERT_TEXT = {"dense": "pre_classifier", "output": "classifier"}
DISTILBERT = Names(
    stem="DistilBert",
    prefix="distilbert.",
    heads={
        "ForSequenceClassification": _DISTILBERT_TEXT,
        **ONE_LAYER,
        "ForMultipleChoice": _DISTILBERT_TEXT,
        "ForMaskedLM": {
            "transform/dense": "vocab_transform",
            "transform/LayerNorm": "vocab_layer_norm",
            "": "vocab_projector",
        },
    },
    skipped=r"(distilbert\.)?embeddings\.position_ids|vocab_projector\.weight",
    decoder="vocab_projector",
)

VIT = Names(
    stem="ViT",
    prefix="vit.",
    heads={IMAGE: {"output": "classifier"}},
    skipped=r"(vit\.)?embeddings\.mask_token",
    classes=IMAGE_CLASSES,
    others=r"decoder\..*",
    older=(*OLDER, *OF_IMAGES),
)

DEIT = Names(
    stem="DeiT",
    prefix="deit.",
    heads={
        IMAGE: {"output": "classifier"},
        TEACHER: {"output": "cls_classifier", "teacher": "distillation_classifier"},
    },
    skipped=r"(deit\.)?embeddings\.mask_token",
    classes=IMAGE_CLASSES,
    others=r"decoder\..*",
    older=(*OLDER, *OF_IMAGES),
)

CAMEMBERT = dataclasses.replace(ROBERTA, stem="Camembert")
XLM_ROBERTA = dataclasses.replace(ROBERTA, stem="XLMRoberta")
