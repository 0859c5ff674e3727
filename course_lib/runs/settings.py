"""What can be changed between two steps of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from course_lib.models import BLOCK_GROUPS
from course_lib.runs.config import GroupSettings


@dataclass(frozen=True)
class Settings:
    """The settings of a run's next step."""

    lr: float
    warmup: int
    tau: float | None
    groups: Mapping[str, GroupSettings]

    def tau_of(self, group: str) -> float | None:
        """τ of a parameter group under AdamW²: its own, or the run's if it is a group of block matrices."""
        shared = self.tau if group in BLOCK_GROUPS else None
        return self.groups.get(group, {}).get("tau", shared)


LIVE_SETTINGS = tuple(field.name for field in fields(Settings))
"""Fields of a config that a run takes between two steps; whatever else is changed makes a fork."""


@dataclass(frozen=True)
class Change:
    """A setting that was changed in mid-run."""

    step: int
    setting: str
    value: Any
