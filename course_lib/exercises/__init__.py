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
from course_lib.exercises.explore import alarm_sliders, explore
from course_lib.exercises.prediction import Outcome, Prediction
from course_lib.exercises.rescue import CARRIER_CLAIMS, check_alarm, check_border, check_carriers
from course_lib.exercises.result import Result
from course_lib.exercises.start import VERDICT_CASES, check_verdicts, check_warmup

__all__ = [
    "CARRIER_CLAIMS",
    "CLAIMS",
    "MAP_TOKENS",
    "VERDICT_CASES",
    "Environment",
    "Outcome",
    "Prediction",
    "Result",
    "alarm_sliders",
    "check_alarm",
    "check_border",
    "check_carriers",
    "check_claims",
    "check_control",
    "check_effective_rank",
    "check_entropy",
    "check_environment",
    "check_rule",
    "check_softmax",
    "check_two_maps",
    "check_verdicts",
    "check_warmup",
    "explore",
    "real_words",
    "step_table",
    "train",
    "verdicts",
]
