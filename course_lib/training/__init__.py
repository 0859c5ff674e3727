"""Runs: what they are made of, how they go, what became of them."""

from course_lib.training.config import OPTIMIZERS, PRESETS, GroupSettings, RunConfig, preset
from course_lib.training.records import Record, losses, probed, to_frame
from course_lib.training.run import Run
from course_lib.training.schedule import SCHEDULES
from course_lib.training.snapshot import Change, Snapshot
from course_lib.training.verdict import VERDICTS, LayerState, Verdict, judge

__all__ = [
    "OPTIMIZERS",
    "PRESETS",
    "SCHEDULES",
    "VERDICTS",
    "Change",
    "GroupSettings",
    "LayerState",
    "Record",
    "Run",
    "RunConfig",
    "Snapshot",
    "Verdict",
    "judge",
    "losses",
    "preset",
    "probed",
    "to_frame",
]
