"""The commands: `python -m course_lib compare --preset live --seed 0 --out runs/first`."""

import sys
from collections.abc import Sequence

from course_lib.cli import compare_command, train_command
from course_lib.cli.options import Parser
from course_lib.cli.output import INTERRUPTED
from course_lib.distributed.process_group import ProcessGroup

PROGRAM = "python -m course_lib"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        status: int = options.run(options)
    except ValueError as error:
        # All processes of a run know the error (ProcessGroup.on_every_rank), so that one of them tells it.
        if ProcessGroup.from_environment().is_main:
            print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        advice = "expected a file that can be written; try another --out"
        print(f"{parser.prog}: {error}: {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compare",
        help="train the same model with and without warmup and with AdamW², and compare them",
        description="Train several arms from the same weights on the same batches; write compare.json, "
        "records.csv, compare.png and each arm's run to a folder.",
    )
    compare_command.add_arguments(command)
    command.set_defaults(run=compare_command.run)
    command = commands.add_parser(
        "train",
        help="train one model, in one process or, started by torchrun, in many",
        description="Train one run, with checkpoints to resume it from; write run.safetensors, records.csv "
        "and result.json to a folder. In many processes: torchrun --nproc_per_node=2 -m course_lib train …",
    )
    train_command.add_arguments(command)
    command.set_defaults(run=train_command.run)
    return parser
