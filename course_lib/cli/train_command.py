"""`python -m course_lib train`: one run, with checkpoints, in one process or in many."""

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import record as reported

from course_lib import checks
from course_lib.cli.options import FORCE_HELP, PRESET_HELP, add_config_options, add_flags, given, whole
from course_lib.cli.output import (
    CHECKPOINT,
    INTERRUPTED,
    RESULT,
    Progress,
    check_folder,
    check_unused,
    make_folder,
    print_table,
    sample,
    write_json,
    write_records,
)
from course_lib.devices import use_available_cores
from course_lib.distributed.process_group import ProcessGroup, destroy_process_group, init_process_group
from course_lib.runs.config import RunConfig
from course_lib.runs.interrupt import DeferredInterrupt
from course_lib.runs.presets import preset, preset_of
from course_lib.runs.run import Run
from course_lib.runs.snapshot import Snapshot
from course_lib.studies.arms import arm_of
from course_lib.studies.compare_arms import ArmResult

SAVE_EVERY = 100
"""Default number of steps between checkpoints."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("--preset", help=PRESET_HELP)
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    steps = f"steps between checkpoints (default: {SAVE_EVERY})"
    command.add_argument("--save-every", type=whole, default=SAVE_EVERY, help=steps)
    add_flags(
        command,
        force=FORCE_HELP,
        resume="go on from the folder's last checkpoint, with its hyperparameters",
        fsdp="of many processes, each holds a part of weights and optimizer state (FSDP2), not all (DDP)",
        json="print result.json instead of a table",
    )
    add_config_options(command)


@dataclass(frozen=True)
class TrainOptions:
    """The options of the command line, parsed and checked."""

    out: Path
    save_every: int
    force: bool
    resume: bool
    json: bool
    fsdp: bool
    preset: str | None
    fields: Mapping[str, Any]
    """The fields of a `RunConfig` that were given."""

    @classmethod
    def parse(cls, options: argparse.Namespace) -> "TrainOptions":
        """Raise a ValueError if options do not go together. The folder is checked later."""
        checks.count("save-every", options.save_every)
        if options.resume and options.force:
            raise ValueError("--resume and --force are both given: expected one; --force begins anew")
        own = {field.name: getattr(options, field.name) for field in fields(cls) if field.name != "fields"}
        return cls(**own, fields=given(options))


def run(namespace: argparse.Namespace) -> int:
    """Train, or go on training; returns the exit status."""
    options = TrainOptions.parse(namespace)
    process_group = replace(init_process_group(), fsdp=options.fsdp)
    use_available_cores(process_group.local_world_size)
    try:
        run = process_group.on_every_rank(lambda: _start(options, process_group))
    except ValueError:
        destroy_process_group()
        raise
    if process_group.world_size == 1:
        return _train(run, options)
    try:
        # `reported` leaves an exception where torchrun finds it, which ends the other processes and shows it.
        return reported(_train)(run, options) or 0
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        print(
            f"process {process_group.rank} of {process_group.world_size} ends: {type(error).__name__}: "
            f"{reason}; try --resume, which goes on from the last checkpoint in {options.out}",
            file=sys.stderr,
        )
        return 1


def _start(options: TrainOptions, process_group: ProcessGroup) -> Run:
    """Make the run to train, new or resumed, and overwrite nothing yet."""
    own = options.fields
    if options.resume:
        run = _resumed(options, process_group)
    else:
        config = preset(options.preset or preset_of(own.get("model"), own.get("task")), **own)
        if not options.force:
            check_unused(options.out)
        run = Run(config, process_group)
    if process_group.is_main:
        make_folder(options.out)
    return run


def _resumed(options: TrainOptions, process_group: ProcessGroup) -> Run:
    path = options.out / CHECKPOINT
    check_folder(options.out)
    if not path.exists():
        raise ValueError(
            f"out is {str(options.out)!r}: expected a folder with a {CHECKPOINT} to resume; "
            "leave out --resume to begin a run"
        )
    snapshot = Snapshot.load(path)
    saved = snapshot.config
    wanted = replace(preset(options.preset) if options.preset else saved, **options.fields)
    for field in fields(RunConfig):
        old, new = getattr(saved, field.name), getattr(wanted, field.name)
        # The device may differ: a run can move to another machine.
        if new != old and field.name != "device":
            raise ValueError(
                f"{field.name} is {new!r}: expected {old!r}, as {path} was saved with; "
                "leave out all hyperparameters and the preset to resume it, or train into another folder"
            )
    run = Run(replace(saved, device=options.fields.get("device", saved.device)), process_group)
    run.restore(snapshot)
    return run


def _train(run: Run, options: TrainOptions) -> int:
    """Make the steps that are left, write the results, and return the exit status."""
    out, main = options.out, run.process_group.is_main
    if main:
        _clear(out, everything=options.force)
    resumed_at = run.updates
    start = perf_counter()
    interrupted = _step(run, options)
    result = ArmResult(arm_of(run.config), run, perf_counter() - start)
    run.save(out / CHECKPOINT)
    row: dict[str, Any] = {}
    if main:
        row = {**result.to_dict(), "processes": run.process_group.world_size, "resumed_at": resumed_at}
        write_records(out / "records.csv", [run.to_frame().assign(arm=result.arm)])
        write_json(out / RESULT, row)
        if interrupted:
            done = f"interrupted: {out} keeps {run.updates} steps"
            print(f"{done}; --resume goes on from there", file=sys.stderr)
    text = None if options.json else sample(run)  # by all processes: a sharded model's forward needs them
    if main:
        if options.json:
            print(json.dumps(row, indent=2))
        else:
            print_table([result], [text])
            print(f"written to {out}: {CHECKPOINT}, records.csv, {RESULT}")
    run.process_group.any_rank(False)  # all processes end together, once everything is written
    destroy_process_group()
    return INTERRUPTED if interrupted else 0


def _clear(out: Path, everything: bool) -> None:
    """Remove half-written files of a killed process and, if `everything`, the old run."""
    leftovers = [path for name in (CHECKPOINT, RESULT, "records.csv") for path in out.glob(f".{name}.*")]
    if everything:  # so that --resume after a crash before the first checkpoint does not find the old run
        leftovers += [out / CHECKPOINT, out / RESULT, out / "records.csv"]
    for path in leftovers:
        path.unlink(missing_ok=True)


def _step(run: Run, options: TrainOptions) -> bool:
    """Make the steps that are left and write checkpoints. Return True if Ctrl-C ended them early."""
    arm, processes = arm_of(run.config), run.process_group
    progress = Progress(run.config.steps)
    # torchrun passes Ctrl-C on, so that it may come twice. It kills processes that take longer than 30 s.
    alone = processes.world_size == 1
    with closing(progress), DeferredInterrupt(consume=True, second_breaks=alone) as interrupt:
        for record in run:
            if processes.is_main:
                progress(arm, run, record)
            if run.updates % options.save_every == 0 and not run.finished:
                run.save(options.out / CHECKPOINT)
            if processes.any_rank(interrupt.asked):
                return not run.finished
    return False
