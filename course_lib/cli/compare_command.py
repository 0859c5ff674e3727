"""`python -m course_lib compare`: several arms, from the same weights on the same batches."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from course_lib.atomic import write_atomically
from course_lib.cli.options import FORCE_HELP, PRESET_HELP, add_config_options, add_flags, given, whole
from course_lib.cli.output import (
    COMPARISON,
    INTERRUPTED,
    Progress,
    check_unused,
    make_folder,
    print_table,
    sample,
    write_json,
    write_records,
)
from course_lib.devices import use_available_cores
from course_lib.distributed.process_group import ProcessGroup
from course_lib.runs.interrupt import DeferredInterrupt
from course_lib.runs.presets import preset, preset_of
from course_lib.studies.arms import ARMS, DEFAULT_ARMS, WARMUP
from course_lib.studies.compare_arms import ArmResult, compare


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("--preset", help=PRESET_HELP)
    command.add_argument("--arms", default=",".join(DEFAULT_ARMS), help=f"from {', '.join(ARMS)}")
    command.add_argument("--out", type=Path, help="folder to write to (default: runs/PRESET-seed-SEED)")
    add_flags(command, force=FORCE_HELP, json="print compare.json instead of a table")
    command.add_argument("--warmup", type=whole, default=WARMUP, help=f"steps (default: {WARMUP})")
    add_config_options(command, without=("optimizer", "warmup"))


def run(options: argparse.Namespace) -> int:
    """Train the arms and write what they leave; returns the exit status."""
    if (size := ProcessGroup.from_environment().world_size) > 1:
        raise ValueError(f"compare is started in {size} processes: expected 1; try train, which shares a run")
    own = given(options)
    own.pop("warmup")  # only arms with warmup take it
    name = options.preset or preset_of(own.get("model"), own.get("task"))
    # Under AdamW² a group may have a τ. Each arm sets its own optimizer.
    base = preset(name, optimizer="adamw2", **own)
    arms = list(dict.fromkeys(options.arms.split(",")))
    out = options.out or Path("runs") / f"{name}-seed-{base.seed}"
    if not options.force:
        check_unused(out)
    make_folder(out)
    if options.force:  # remove the files of arms that are not trained now
        for arm in ARMS:
            (out / f"{arm}.safetensors").unlink(missing_ok=True)
    use_available_cores()
    results: list[ArmResult] = []
    interrupted = False
    progress = Progress(base.steps)
    try:
        with closing(progress):
            for result in compare(base, arms, warmup=options.warmup, each_step=progress):
                with DeferredInterrupt():
                    results.append(result)
                    _write(out, results)
    except KeyboardInterrupt:
        interrupted = True
        print(f"interrupted: {out} keeps what was trained", file=sys.stderr)
    if options.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    elif results:
        print_table(results, [sample(result.run) for result in results])
        print(f"written to {out}: {COMPARISON}, records.csv, compare.png, one .safetensors per arm")
    return INTERRUPTED if interrupted else 0


def _write(out: Path, results: Sequence[ArmResult]) -> None:
    """Write everything trained so far, after every arm, so that a crash loses one arm at most."""
    # matplotlib is imported here so that --help and bad input are answered at once.
    from course_lib.figures.comparison import compare_figure

    results[-1].run.save(out / f"{results[-1].arm}.safetensors")
    write_records(out / "records.csv", [result.run.to_frame().assign(arm=result.arm) for result in results])
    picture = io.BytesIO()
    compare_figure(results).savefig(picture, format="png", dpi=110)
    write_atomically(out / "compare.png", picture.getvalue())
    write_json(out / COMPARISON, [result.to_dict() for result in results])
