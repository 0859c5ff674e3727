"""`python -m course_lib train`: one run, with checkpoints, in one process or in many."""

import argparse
import json
import signal
import sys
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter
from types import FrameType, TracebackType
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import record as reported

from course_lib import checks
from course_lib.cli.options import PRESET_HELP, add_config_options, given, whole
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
from course_lib.distributed.world import World, join, leave
from course_lib.runs.config import RunConfig
from course_lib.runs.presets import preset, preset_of
from course_lib.runs.run import Run
from course_lib.runs.snapshot import Snapshot
from course_lib.studies.arms import arm_of
from course_lib.studies.compare import ArmResult

SAVE_EVERY = 100
"""Steps between checkpoints: what a crash can cost."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("--preset", help=PRESET_HELP)
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument(
        "--save-every",
        type=whole,
        default=SAVE_EVERY,
        help=f"steps between checkpoints (default: {SAVE_EVERY})",
    )
    command.add_argument("--force", action="store_true", help="overwrite a run that the folder holds")
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on from the folder's last checkpoint, with its hyperparameters",
    )
    command.add_argument(
        "--fsdp",
        action="store_true",
        help="of many processes, each holds a part of weights and optimizer state (FSDP2), not all (DDP)",
    )
    command.add_argument("--json", action="store_true", help="print result.json instead of a table")
    add_config_options(command)


def run(options: argparse.Namespace) -> int:
    """Train, or go on training; returns the exit status."""
    world = replace(join(), fsdp=options.fsdp)
    use_available_cores(world.local_size)
    try:
        run = world.agree(lambda: _start(options, world))
    except ValueError:
        leave()
        raise
    if world.size == 1:
        return _train(run, options)
    try:
        # `reported` leaves an exception where torchrun finds it, which ends the other processes and shows it.
        return reported(_train)(run, options) or 0
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        print(
            f"process {world.rank} of {world.size} ends: {type(error).__name__}: {reason}; "
            f"try --resume, which goes on from the last checkpoint in {options.out}",
            file=sys.stderr,
        )
        return 1


def _train(run: Run, options: argparse.Namespace) -> int:
    out: Path = options.out
    world = run.world
    if world.first:
        _clear(out, everything=options.force)
    resumed_at = run.updates
    start = perf_counter()
    interrupted = _step(run, out, options.save_every)
    result = ArmResult(arm_of(run.config), run, perf_counter() - start)
    run.save(out / CHECKPOINT)
    row: dict[str, Any] = {}
    if world.first:
        row = result.to_dict() | {"processes": world.size, "resumed_at": resumed_at}
        write_records(out / "records.csv", [run.to_frame().assign(arm=result.arm)])
        write_json(out / RESULT, row)
        if interrupted:
            done = f"interrupted: {out} keeps {run.updates} steps"
            print(f"{done}; --resume goes on from there", file=sys.stderr)
    text = None if options.json else sample(run)  # by all processes: a sharded model's forward needs them
    if world.first:
        if options.json:
            print(json.dumps(row, indent=2))
        else:
            print_table([result], [text])
            print(f"written to {out}: {CHECKPOINT}, records.csv, {RESULT}")
    world.any(False)  # all processes end together, once everything is written
    leave()
    return INTERRUPTED if interrupted else 0


def _start(options: argparse.Namespace, world: World) -> Run:
    """The run to train, new or resumed; nothing has been overwritten so far."""
    checks.count("save-every", options.save_every)
    if options.resume:
        if options.force:
            raise ValueError("--resume and --force are both given: expected one; --force begins anew")
        run = _resumed(options, world)
    else:
        own = given(options)
        config = preset(options.preset or preset_of(own.get("model"), own.get("task")), **own)
        if not options.force:
            check_unused(options.out)
        run = Run(config, world)
    if world.first:
        make_folder(options.out)
    return run


def _resumed(options: argparse.Namespace, world: World) -> Run:
    path = options.out / CHECKPOINT
    check_folder(options.out)
    if not path.exists():
        raise ValueError(
            f"out is {str(options.out)!r}: expected a folder with a {CHECKPOINT} to resume; "
            "leave out --resume to begin a run"
        )
    snapshot = Snapshot.load(path)
    saved = snapshot.config
    own = given(options)
    wanted = replace(preset(options.preset) if options.preset else saved, **own)
    for field in fields(RunConfig):
        old, new = getattr(saved, field.name), getattr(wanted, field.name)
        # The device may differ: a run can move to another machine.
        if new != old and field.name != "device":
            raise ValueError(
                f"{field.name} is {new!r}: expected {old!r}, as {path} was saved with; "
                "leave out all hyperparameters and the preset to resume it, or train into another folder"
            )
    run = Run(replace(saved, device=own.get("device", saved.device)), world)
    run.restore(snapshot)
    return run


def _clear(out: Path, everything: bool) -> None:
    """Remove what a killed process left half-written and, to begin anew, the old run."""
    leftovers = [path for name in (CHECKPOINT, RESULT, "records.csv") for path in out.glob(f".{name}.*")]
    if everything:  # else a --resume after a crash before the first checkpoint would find the old run
        leftovers += [out / CHECKPOINT, out / RESULT, out / "records.csv"]
    for path in leftovers:
        path.unlink(missing_ok=True)


def _step(run: Run, out: Path, save_every: int) -> bool:
    """Make the steps that are left and write the checkpoints; whether Ctrl-C ended it is returned."""
    arm = arm_of(run.config)
    progress = Progress(run.config.steps)
    with closing(progress), Interrupt(run.world) as interrupt:
        for record in run:
            if run.world.first:
                progress(arm, run, record)
            if run.updates % save_every == 0 and not run.finished:
                run.save(out / CHECKPOINT)
            if run.world.any(interrupt.asked):
                return not run.finished
    return False


class Interrupt:
    """Ctrl-C is kept until a step is complete, so that the run can be saved whole; a second one is not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # torchrun passes Ctrl-C on, so that it may come twice; it kills what takes longer than 30 s.
        if self.asked and self.world.size == 1:
            raise KeyboardInterrupt
        self.asked = True
