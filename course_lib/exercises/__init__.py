"""What the notebooks ask of their readers: predictions before a run, exercises after it."""

from course_lib.exercises.environment import Environment, check_environment
from course_lib.exercises.explore import alarm_sliders, explore
from course_lib.exercises.nb00 import VERDICT_CASES, check_verdicts, check_warmup
from course_lib.exercises.nb01 import (
    MAP_TOKENS,
    check_effective_rank,
    check_entropy,
    check_softmax,
    check_two_maps,
)
from course_lib.exercises.nb02 import CLAIMS, check_claims, check_control, check_rule
from course_lib.exercises.nb03 import check_floor, check_product_gradient, check_sec
from course_lib.exercises.nb04 import (
    PROMISES,
    check_adamw2,
    check_allowed_lr,
    check_power_iteration,
    check_promises,
    step_for_step,
)
from course_lib.exercises.nb05 import (
    TAMING_CLAIMS,
    check_lr_sensitivity,
    check_steps_to_grow,
    check_taming_claims,
)
from course_lib.exercises.nb06 import check_patch_map, check_tamed
from course_lib.exercises.nb07 import check_linear, check_sees
from course_lib.exercises.nb08 import CARRIER_CLAIMS, check_alarm, check_border, check_carriers
from course_lib.exercises.nb09 import PATIENTS, Stranger, check_first_aid, check_share_cut, check_sites
from course_lib.exercises.prediction import Outcome, Prediction
from course_lib.exercises.progress import progress
from course_lib.exercises.result import Result

__all__ = [
    "CARRIER_CLAIMS",
    "CLAIMS",
    "MAP_TOKENS",
    "PATIENTS",
    "PROMISES",
    "TAMING_CLAIMS",
    "VERDICT_CASES",
    "Environment",
    "Outcome",
    "Prediction",
    "Result",
    "Stranger",
    "alarm_sliders",
    "check_adamw2",
    "check_alarm",
    "check_allowed_lr",
    "check_border",
    "check_carriers",
    "check_claims",
    "check_control",
    "check_effective_rank",
    "check_entropy",
    "check_environment",
    "check_first_aid",
    "check_floor",
    "check_linear",
    "check_lr_sensitivity",
    "check_patch_map",
    "check_power_iteration",
    "check_product_gradient",
    "check_promises",
    "check_rule",
    "check_sec",
    "check_sees",
    "check_share_cut",
    "check_sites",
    "check_softmax",
    "check_steps_to_grow",
    "check_tamed",
    "check_taming_claims",
    "check_two_maps",
    "check_verdicts",
    "check_warmup",
    "explore",
    "progress",
    "step_for_step",
]
