"""The course's models. They all use one attention module."""

from course_lib.models.attention import (
    ATTENTION_KINDS,
    DISTRIBUTIONS,
    Attention,
    attention_logits,
    attention_weights,
    visible_keys,
)
from course_lib.models.block import NORM_PLACES
from course_lib.models.flatten_swin import FlattenSwin
from course_lib.models.generate import generate
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.parameter_groups import BLOCK_GROUPS, GROUPS, group_of, parameter_groups
from course_lib.models.patches import STEMS
from course_lib.models.swin import Swin, SwinConfig
from course_lib.models.vit import ViT, ViTConfig

__all__ = [
    "ATTENTION_KINDS",
    "BLOCK_GROUPS",
    "DISTRIBUTIONS",
    "GPT",
    "GROUPS",
    "NORM_PLACES",
    "STEMS",
    "Attention",
    "FlattenSwin",
    "GPTConfig",
    "Swin",
    "SwinConfig",
    "ViT",
    "ViTConfig",
    "attention_logits",
    "attention_weights",
    "generate",
    "group_of",
    "parameter_groups",
    "visible_keys",
]
