"""Settings that can be changed between two steps of a run."""

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
"""Fields of a config that can change between two steps of a run. A change of any other needs a fork."""


@dataclass(frozen=True)
class Change:
    """A change of one setting during a run."""

    step: int
    setting: str
    value: Any
