"""Command line: `python -m course_lib compare --preset live --seed 0 --out runs/first`."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from tqdm import tqdm

from course_lib.devices import use_available_cores
from course_lib.training.compare import ARMS, DEFAULT_ARMS, WARMUP, ArmResult, compare
from course_lib.training.config import PRESETS, RunConfig, preset
from course_lib.training.records import Record
from course_lib.training.run import Run
from course_lib.training.snapshot import write_atomically

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells expect it."""


class Parser(argparse.ArgumentParser):
    """Answers bad input with one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; try {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        return _compare(options)
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def _parser() -> Parser:
    parser = Parser(prog="python -m course_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compare",
        help="train the same model with and without warmup and with AdamW², and compare them",
        description="Train several arms from the same weights on the same batches; write compare.json, "
        "records.csv, compare.png and each arm's run to a folder.",
    )
    command.add_argument("--preset", default="live", help=f"one of {', '.join(PRESETS)} (default: live)")
    command.add_argument("--arms", default=",".join(DEFAULT_ARMS), help=f"from {', '.join(ARMS)}")
    command.add_argument("--out", type=Path, help="folder to write to (default: runs/PRESET-seed-SEED)")
    command.add_argument("--force", action="store_true", help="overwrite a run that the folder holds")
    command.add_argument("--json", action="store_true", help="print compare.json instead of a table")
    command.add_argument("--warmup", type=_whole, default=WARMUP, help=f"steps (default: {WARMUP})")
    command.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="GROUP.SETTING=VALUE",
        help="a setting of one parameter group, such as qk.warmup=0, vo.tau=off, mlp.lr_multiplier=0.1",
    )
    for option in fields(RunConfig):
        if "help" in option.metadata and option.name not in ("optimizer", "warmup"):
            _add_option(command, option.name, option.default, option.metadata["help"])
    return parser


def _add_option(command: argparse.ArgumentParser, name: str, default: Any, text: str) -> None:
    """An option for a field of RunConfig; left out, the preset's value stands."""
    kind: dict[str, Any] = {"type": str}
    if isinstance(default, bool):
        kind = {"action": argparse.BooleanOptionalAction}
    elif isinstance(default, int):
        kind = {"type": _whole}
    elif isinstance(default, tuple):
        kind = {"type": _number, "nargs": len(default), "metavar": "BETA"}
    elif isinstance(default, float) or name == "clip":
        kind = {"type": _number_or_off if name in ("tau", "clip") else _number}
    flag = f"--{name.replace('_', '-')}"
    command.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=text.replace("%", "%%"), **kind)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, such as 0.01") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, such as 100") from None


def _number_or_off(text: str) -> float | None:
    return None if text == "off" else _number(text)


def _groups(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """["qk.warmup=0"] → {"qk": {"warmup": 0}}; names and values are checked by RunConfig."""
    groups: dict[str, dict[str, Any]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        group, dot, setting = place.partition(".")
        try:
            if not equals or not dot:
                raise argparse.ArgumentTypeError("two parts are missing")
            parsed = _whole(value) if setting == "warmup" else _number_or_off(value)
        except argparse.ArgumentTypeError:
            raise ValueError(
                f"--group is {text!r}: expected GROUP.SETTING=VALUE, such as qk.warmup=0"
            ) from None
        groups.setdefault(group, {})[setting] = parsed
    return groups


def _compare(options: argparse.Namespace) -> int:
    own = {f.name: getattr(options, f.name) for f in fields(RunConfig) if hasattr(options, f.name)}
    own.pop("warmup")  # of the arms that have one; a config of its own would give it to all
    base = preset(options.preset, groups=_groups(options.group), **own)
    arms = list(dict.fromkeys(options.arms.split(",")))
    out = options.out or Path("runs") / f"{options.preset}-seed-{base.seed}"
    _prepare(out, options.force)
    use_available_cores()
    results: list[ArmResult] = []
    interrupted = False
    progress = _Progress(base.steps)
    try:
        with closing(progress):
            for result in compare(base, arms, warmup=options.warmup, each_step=progress):
                results.append(result)
                _write(out, results)
    except KeyboardInterrupt:
        interrupted = True
        print(f"interrupted: {out} keeps what was trained", file=sys.stderr)
    if options.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    elif results:
        _print_table(results, out)
    return INTERRUPTED if interrupted else 0


def _prepare(out: Path, force: bool) -> None:
    """Make sure of the folder before anything is trained."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out is {str(out)!r}: expected a folder, it is a file; try another name")
    if (out / "compare.json").exists() and not force:
        raise ValueError(
            f"out is {str(out)!r}: expected a folder without a run, it holds one; "
            "try another folder, or --force to overwrite it"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / ".writable", b"")
        (out / ".writable").unlink()
    except OSError as error:
        raise ValueError(
            f"out is {str(out)!r}: expected a folder that can be written ({error.strerror}); try another one"
        ) from error


class _Progress:
    """A progress bar per arm, on standard error."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.bar: tqdm[Any] | None = None
        self.arm = ""

    def __call__(self, arm: str, run: Run, record: Record) -> None:
        if self.bar is None or arm != self.arm:
            self.close()
            self.arm = arm
            self.bar = tqdm(total=self.steps, desc=arm, unit="step", mininterval=0.5)
        if record.step % 10 == 0:  # reading a loss waits for the device
            self.bar.set_postfix(loss=f"{record.loss:.2f}", refresh=False)
        self.bar.update(run.updates - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _write(out: Path, results: Sequence[ArmResult]) -> None:
    """Everything trained so far; rewritten after every arm, so that a crash loses one arm at most."""
    # matplotlib is imported here so that --help and bad input are answered at once.
    from course_lib.plots.compare import compare_figure

    results[-1].run.save(out / f"{results[-1].arm}.safetensors")
    tables = [result.run.frame().assign(arm=result.arm) for result in results]
    write_atomically(out / "records.csv", pd.concat(tables).to_csv(index=False).encode())
    picture = io.BytesIO()
    compare_figure(results).savefig(picture, format="png", dpi=110)
    write_atomically(out / "compare.png", picture.getvalue())
    text = json.dumps([result.to_dict() for result in results], indent=2, allow_nan=False)
    write_atomically(out / "compare.json", text.encode())


def _print_table(results: Sequence[ArmResult], out: Path) -> None:
    rows = [result.to_dict() for result in results]
    reference = rows[0]["reference"]
    table = pd.DataFrame(
        {
            "arm": [row["arm"] for row in rows],
            "val. loss": [_shown(row["final_val_loss"], ".3f") for row in rows],
            "verdict": [row["verdict"] for row in rows],
            "learnt": ["yes" if row["learnt"] else "no" for row in rows],
            "first collapse": [_shown(row["first_collapse_step"], "d") for row in rows],
            "seconds": [_shown(row["seconds"], ".1f") for row in rows],
        }
    )
    print(table.to_string(index=False))
    print(f"learnt: below the {reference['name']} line, {reference['loss']:.3f} nats")
    for result in results:
        if result.run.config.task == "text":
            print(f"{result.arm} writes: {result.run.write(60)!r}")
    print(f"written to {out}: compare.json, records.csv, compare.png, one .safetensors per arm")


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


if __name__ == "__main__":
    sys.exit(main())
