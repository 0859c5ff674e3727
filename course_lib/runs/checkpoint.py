"""A run's state as a `Snapshot`, and back."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from course_lib.distributed.sharding import sharded_like
from course_lib.runs.config import MODEL_FIELDS
from course_lib.runs.optimizers import load_state_tensors, state_tensors
from course_lib.runs.snapshot import Snapshot

if TYPE_CHECKING:
    from course_lib.runs.run import Run

_MODEL, _OPTIMIZER = "model.", "optimizer."


def take(run: "Run", copy: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Snapshot:
    """Take a snapshot (see `Run.snapshot`)."""
    tensors: dict[str, Tensor] = {_MODEL + n: p for n, p in run.model.named_parameters()}
    tensors |= {_OPTIMIZER + n: t for n, t in state_tensors(run.optimizer).items()}
    return Snapshot(
        config=run.config,
        origin=run.origin,
        settings=run.settings,
        updates=run.updates,
        data_digest=run.task.digest,
        tensors=copy(tensors),
        records=tuple(run.records),
        changes=tuple(run.changes),
    )


def put_back(run: "Run", snapshot: Snapshot) -> None:
    """Bring a run into a snapshot's state; parameters, steps and data are checked before anything changes."""
    own = {_MODEL + n: p for n, p in run.model.named_parameters()}
    kept = {n: t for n, t in snapshot.tensors.items() if n.startswith(_MODEL)}
    for name in {**own, **kept}:
        here, there = (tuple(t[name].shape) if name in t else "missing" for t in (own, kept))
        if here != there:
            raise ValueError(
                f"{name} is {there} in the snapshot: expected {here}; "
                "restore it into a run of the same model, or use Run.load"
            )
    if snapshot.updates > run.config.steps:
        raise ValueError(
            f"steps is {run.config.steps}: expected at least {snapshot.updates}, which the snapshot has "
            "made already; try an earlier snapshot"
        )
    if snapshot.data_digest != run.task.digest:
        raise ValueError(
            f"the snapshot is of other data ({snapshot.data_digest[:12]}…): expected that of this run "
            f"({run.task.digest[:12]}…); give back the text it was trained on"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(sharded_like(kept[name], parameter))
    state = {n.removeprefix(_OPTIMIZER): t for n, t in snapshot.tensors.items() if n.startswith(_OPTIMIZER)}
    load_state_tensors(run.optimizer, state)
    run.origin, run.settings, run.updates = snapshot.origin, snapshot.settings, snapshot.updates
    # The last record of a shorter run told of a model that now makes one more update.
    extended = snapshot.updates < run.config.steps
    run.records = [r for r in snapshot.records if not extended or r.step < snapshot.updates]
    run.changes = list(snapshot.changes)
    run.observation = None


def check_same_model(run: "Run", snapshot: Snapshot) -> None:
    """Raise a ValueError if a snapshot is of another task, seed or model."""
    ours, theirs = run.config.to_dict(), snapshot.config.to_dict()
    for name in ("task", "seed", *MODEL_FIELDS):
        if ours[name] != theirs[name]:
            raise ValueError(
                f"{name} is {theirs[name]!r} in the snapshot: expected {ours[name]!r}; "
                "restore it into a run of the same model and seed, or use Run.load"
            )
