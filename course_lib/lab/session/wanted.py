"""The settings that a reader has chosen, as data. The controls show them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from course_lib.runs import GroupSettings, Run, RunConfig
from course_lib.runs.config import without_tau


def present_config(run: Run) -> RunConfig:
    """The config of a run with its present settings."""
    return replace(run.config, **vars(run.settings))


@dataclass(frozen=True)
class WantedSettings:
    """The settings of the next step, fork or run, with the fields of `RunConfig`.

    AdamW has no bound. While it is the optimizer, τ and the groups' τ are kept for AdamW².
    """

    lr: float
    warmup: int
    tau: float | None
    groups: Mapping[str, GroupSettings]
    optimizer: str
    attention: str
    norm: str

    @classmethod
    def of(cls, run: Run) -> "WantedSettings":
        """The settings that a run has now."""
        config = run.config
        fixed = {name: getattr(config, name) for name in ("optimizer", "attention", "norm")}
        return cls(**vars(run.settings), **fixed)

    def in_place_of(self, base: RunConfig) -> RunConfig:
        """A config with these settings and all other fields of `base`.

        Raises:
            ValueError: a value is out of range.
        """
        return replace(base, **self._fields())

    def changes(self, run: Run) -> dict[str, Any]:
        """The settings that differ from a run's and that a fork of the run can have."""
        ours, theirs = vars(self), vars(WantedSettings.of(run))
        return {name: ours[name] for name in ours if name != "norm" and ours[name] != theirs[name]}

    def overrides(self, run: Run) -> dict[str, Any]:
        """The overrides with which a fork of a run has these settings."""
        fields = self._fields()
        changed = WantedSettings(**fields).changes(run)
        if self.optimizer == "adamw":
            changed.pop("tau", None)
        if "optimizer" in changed:  # the groups of the run's config may not fit the new optimizer
            changed["groups"] = fields["groups"]
        return changed

    def _fields(self) -> dict[str, Any]:
        groups = dict(self.groups)
        if self.optimizer == "adamw":  # AdamW has no bound: a group's own τ waits for AdamW²
            groups = {name: without_tau(own) for name, own in groups.items()}
        return vars(self) | {"groups": {name: own for name, own in groups.items() if own}}
