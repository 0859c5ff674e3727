"""Runs: their configs, their training loop, their records and verdicts."""

from course_lib.deprecated import renamed_in_module
from course_lib.runs.config import MODELS, OPTIMIZERS, GroupSettings, RunConfig
from course_lib.runs.presets import PRESETS, preset
from course_lib.runs.records import Record, accuracies, losses, mean_over_heads, probed, to_frame
from course_lib.runs.run import Evaluation, Run
from course_lib.runs.schedule import SCHEDULES
from course_lib.runs.settings import LIVE_SETTINGS, Change
from course_lib.runs.snapshot import Snapshot
from course_lib.runs.verdict import LayerState, Verdict, judge

__all__ = [
    "LIVE_SETTINGS",
    "MODELS",
    "OPTIMIZERS",
    "PRESETS",
    "SCHEDULES",
    "Change",
    "Evaluation",
    "GroupSettings",
    "LayerState",
    "Record",
    "Run",
    "RunConfig",
    "Snapshot",
    "Verdict",
    "accuracies",
    "judge",
    "losses",
    "mean_over_heads",
    "preset",
    "probed",
    "to_frame",
]

__getattr__ = renamed_in_module(__name__, Score=Evaluation)
