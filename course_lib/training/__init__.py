"""Runs: what they are made of, how they go, what became of them."""

from course_lib.training.config import MODELS, OPTIMIZERS, GroupSettings, RunConfig
from course_lib.training.presets import PRESETS, preset
from course_lib.training.records import (
    Record,
    accuracies,
    losses,
    mean_over_heads,
    probed,
    to_frame,
)
from course_lib.training.rescue import Cure, Rescue, Trial
from course_lib.training.run import Run, Score
from course_lib.training.schedule import SCHEDULES
from course_lib.training.snapshot import Change, Snapshot
from course_lib.training.verdict import VERDICTS, LayerState, Verdict, judge

__all__ = [
    "MODELS",
    "OPTIMIZERS",
    "PRESETS",
    "SCHEDULES",
    "VERDICTS",
    "Change",
    "Cure",
    "GroupSettings",
    "LayerState",
    "Record",
    "Rescue",
    "Run",
    "RunConfig",
    "Score",
    "Snapshot",
    "Trial",
    "Verdict",
    "accuracies",
    "judge",
    "losses",
    "mean_over_heads",
    "preset",
    "probed",
    "to_frame",
]
