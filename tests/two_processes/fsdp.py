"""Under torchrun: runs whose weights are spread over the processes.

Trains the configs of configs.json {name: config} in a folder and saves each as NAME.safetensors; goes on with
one.safetensors, which one process has saved; writes what else was found to found.json.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from course_lib import Run, RunConfig
from course_lib.distributed.process_group import destroy_process_group, init_process_group
from course_lib.distributed.sharding import local
from course_lib.runs.snapshot import Snapshot
from course_lib.runs.timeline import Timeline

HALF_WAY = 8


def same(one: Snapshot, two: Snapshot) -> bool:
    """Whether two snapshots hold the same, bit for bit."""
    probes = [
        np.array_equal(values, b.probes[quantity], equal_nan=True)
        for a, b in zip(one.records, two.records, strict=True)
        for quantity, values in a.probes.items()
    ]
    tensors = [torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items()]
    plain = [
        (s.updates, s.settings, s.changes, s.tensors.keys(), [(r.loss, r.val_loss) for r in s.records])
        for s in (one, two)
    ]
    return all(probes) and all(tensors) and plain[0] == plain[1]


def finish(run: Run) -> Snapshot:
    """The run's snapshot at its end."""
    for _ in run:
        pass
    return run.snapshot()


def held(run: Run) -> float:
    """The share of the weights and moments that this process holds."""
    states = [s[n] for s in run.optimizer.state.values() for n in ("exp_avg", "exp_avg_sq")]
    tensors = [*run.model.parameters(), *states]
    return sum(local(t).numel() for t in tensors) / sum(t.numel() for t in tensors)


def main(folder: Path) -> None:
    process_group = replace(init_process_group(), fsdp=True)
    found = {}
    for name, config in json.loads((folder / "configs.json").read_text()).items():
        run = Run(RunConfig(**config), process_group)
        timeline = Timeline(run)
        for record in run:
            if record.step == HALF_WAY - 1:
                half_way = run.snapshot()
                timeline.keep()
        run.save(folder / f"{name}.safetensors")
        end = run.snapshot()
        found[name] = {"held": held(run), "writes": run.generate(20)}
        found[name]["moment"] = same(timeline.at(HALF_WAY), half_way)
        # The last forward has been one without gradients: what it gathered must not be what comes next.
        run.restore(half_way)
        found[name]["repeats"] = same(finish(run), end)
        run.restore(half_way)
        found[name]["fork repeats"] = same(finish(run.fork()), end)
    run = Run.load(folder / "one.safetensors", process_group=process_group)
    run.save(folder / "again.safetensors")
    finish(run)
    run.save(folder / "finished.safetensors")
    if process_group.is_main:
        (folder / "found.json").write_text(json.dumps(found))
    destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
