"""What the notebooks ask of their readers: predictions before a run, exercises after it."""

from course_lib.exercises.attention import (
    MAP_TOKENS,
    check_effective_rank,
    check_entropy,
    check_softmax,
    check_two_maps,
)
from course_lib.exercises.crash import CLAIMS, check_claims, check_control, check_rule
from course_lib.exercises.environment import Environment, check_environment
from course_lib.exercises.experiment import real_words, step_table, train, verdicts
from course_lib.exercises.explore import explore
from course_lib.exercises.prediction import Outcome, Prediction
from course_lib.exercises.result import Result
from course_lib.exercises.start import VERDICT_CASES, check_verdicts, check_warmup
from course_lib.exercises.swin import check_linear, check_sees
from course_lib.exercises.vit import check_patch_map, check_tamed

__all__ = [
    "CLAIMS",
    "MAP_TOKENS",
    "VERDICT_CASES",
    "Environment",
    "Outcome",
    "Prediction",
    "Result",
    "check_claims",
    "check_control",
    "check_effective_rank",
    "check_entropy",
    "check_environment",
    "check_linear",
    "check_patch_map",
    "check_rule",
    "check_sees",
    "check_softmax",
    "check_tamed",
    "check_two_maps",
    "check_verdicts",
    "check_warmup",
    "explore",
    "real_words",
    "step_table",
    "train",
    "verdicts",
]
