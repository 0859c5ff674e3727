"""The models of the course, all built from one attention module."""

from course_lib.models.attention import (
    ATTENTION_KINDS,
    Attention,
    attention_logits,
    attention_weights,
    visible_keys,
)
from course_lib.models.generate import generate
from course_lib.models.gpt import GPT, NORM_PLACES, GPTConfig
from course_lib.models.groups import BLOCK_GROUPS, GROUPS, group_of, parameter_groups

__all__ = [
    "ATTENTION_KINDS",
    "BLOCK_GROUPS",
    "GPT",
    "GROUPS",
    "NORM_PLACES",
    "Attention",
    "GPTConfig",
    "attention_logits",
    "attention_weights",
    "generate",
    "group_of",
    "parameter_groups",
    "visible_keys",
]
