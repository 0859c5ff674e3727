"""Options of the command line, and the config that they give."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from course_lib import checks
from course_lib.data import IMAGE_TASKS
from course_lib.distributed.process_group import ProcessGroup
from course_lib.runs.config import RENAMED, RunConfig
from course_lib.runs.presets import PRESETS

FORCE_HELP = "overwrite a run that the folder holds"
PRESET_HELP = f"one of {', '.join(PRESETS)} (default: that of the --model's name; vit for images; or live)"


class Parser(argparse.ArgumentParser):
    """Answers bad input with one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        # All processes of a run get the same options, so that one of them tells what is wrong.
        told = ProcessGroup.from_environment().is_main
        self.exit(2, f"{self.prog}: {message}; try {self.prog} --help\n" if told else None)


def add_flags(command: argparse.ArgumentParser, **flags: str) -> None:
    """Options without a value: name → help."""
    for name, text in flags.items():
        command.add_argument(f"--{name}", action="store_true", help=text)


def add_config_options(command: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Add an option for every field of RunConfig but those in `without`. The preset has the defaults."""
    command.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="GROUP.SETTING=VALUE",
        help="a setting of one parameter group, such as qk.warmup=0, vo.tau=off, mlp.lr_multiplier=0.1",
    )
    command.add_argument(
        "--data",
        help=f"images to learn: {', '.join(IMAGE_TASKS)} (downloaded once, 31 MB), or a folder of your own "
        "with four files like MNIST's (the preset is then vit unless one is named)",
    )
    for option in fields(RunConfig):
        if "help" in option.metadata and option.name not in without:
            _add_option(command, option.name, option.default, option.metadata["help"])


def _add_option(command: argparse.ArgumentParser, name: str, default: Any, text: str) -> None:
    kind: dict[str, Any] = {"type": str}
    if isinstance(default, bool):
        kind = {"action": argparse.BooleanOptionalAction}
    elif isinstance(default, int):
        kind = {"type": whole}
    elif name == "depths":
        kind = {"type": whole, "nargs": "+", "metavar": "BLOCKS"}
    elif isinstance(default, tuple):
        kind = {"type": _number, "nargs": len(default), "metavar": "BETA"}
    elif isinstance(default, float) or name == "clip":
        kind = {"type": _number_or_off if name in ("tau", "clip") else _number}
    names = (name, *(old for old, new in RENAMED.items() if new == name))
    flags = [f"--{name.replace('_', '-')}" for name in names]
    command.add_argument(*flags, dest=name, default=argparse.SUPPRESS, help=text.replace("%", "%%"), **kind)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of RunConfig that were given on the command line."""
    own = {f.name: getattr(options, f.name) for f in fields(RunConfig) if hasattr(options, f.name)}
    if str(own.get("device")).startswith("meta"):  # holds no values, so that a run has no loss to report
        raise ValueError(f"device is {own['device']!r}: expected one that computes; try --device auto")
    if options.data is not None:
        own |= _data(options.data, own)
    if options.group:
        own["groups"] = _groups(options.group)
    return own


def _data(data: str, own: Collection[str]) -> dict[str, str]:
    """The task of --data and, where it is a folder, the folder."""
    for name in ("task", "folder"):
        if name in own:
            raise ValueError(f"--data and --{name} are both given: expected one; --data names the images")
    if data in IMAGE_TASKS:
        return {"task": data}
    if not Path(data).expanduser().is_dir():
        checks.choice("data", data, (*IMAGE_TASKS, "a folder that exists"))
    return {"task": "fashion-mnist-full", "folder": data}


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, such as 100") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, such as 0.01") from None


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
            parsed = whole(value) if setting == "warmup" else _number_or_off(value)
        except argparse.ArgumentTypeError:
            raise ValueError(
                f"--group is {text!r}: expected GROUP.SETTING=VALUE, such as qk.warmup=0"
            ) from None
        groups.setdefault(group, {})[setting] = parsed
    return groups
