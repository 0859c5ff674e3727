"""Files of a command in its folder, and its output on the screen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from course_lib.atomic import write_atomically
from course_lib.extras import pandas as pd
from course_lib.runs.records import Record
from course_lib.runs.run import Run
from course_lib.studies.compare_arms import ArmResult

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells expect it."""

CHECKPOINT, RESULT, COMPARISON = "run.safetensors", "result.json", "compare.json"


def check_folder(out: Path) -> None:
    """Raise a ValueError unless `out` is a folder, or nothing yet."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out is {str(out)!r}: expected a folder, it is a file; try another name")


def check_unused(out: Path) -> None:
    """Raise a ValueError if `out` holds the files of an earlier run."""
    check_folder(out)
    runs = [*out.glob("*.safetensors"), *(out / name for name in (RESULT, COMPARISON, "records.csv"))]
    if any(path.exists() for path in runs):
        raise ValueError(
            f"out is {str(out)!r}: expected a folder without a run, it holds one; "
            "try another folder, or --force to overwrite it"
        )


def make_folder(out: Path) -> None:
    """Make the folder `out`, and check that files can be written there."""
    check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / ".writable", b"")
        (out / ".writable").unlink()
    except OSError as error:
        raise ValueError(
            f"out is {str(out)!r}: expected a folder that can be written ({error.strerror}); try another one"
        ) from error


class Progress:
    """A progress bar per arm, on standard error."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.bar: tqdm[Any] | None = None
        self.arm = ""

    def __call__(self, arm: str, run: Run, record: Record) -> None:
        if self.bar is None or arm != self.arm:
            self.close()
            self.arm = arm
            self.bar = tqdm(total=self.steps, initial=record.step, desc=arm, unit="step", mininterval=0.5)
        if record.step % 10 == 0:  # reading a loss waits for the device
            self.bar.set_postfix(loss=f"{record.loss:.2f}", refresh=False)
        self.bar.update(run.updates - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, which knows no NaN."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False).encode())


def write_records(path: Path, tables: Sequence[pd.DataFrame]) -> None:
    """Write tables of records, one below the other."""
    write_atomically(path, pd.concat(tables).to_csv(index=False).encode())


def sample(run: Run) -> str | None:
    """Let a model of text write; None for the other tasks."""
    return run.generate(60) if run.config.task == "text" else None


def print_table(results: Sequence[ArmResult], samples: Sequence[str | None]) -> None:
    """Print one row per arm, the reference line, and the text that each arm's model wrote."""
    rows = [result.to_dict() for result in results]
    reference = rows[0]["reference"]
    images = "accuracy" in reference
    shown = [
        {
            "arm": row["arm"],
            "val. loss": _shown(row["final_val_loss"], ".3f"),
            **({"val. accuracy": _shown(row["final_val_accuracy"], ".3f")} if images else {}),
            "verdict": row["verdict"],
            "learnt": "yes" if row["learnt"] else "no",
            "first collapse": _shown(row["first_collapse_step"], "d"),
            "seconds": _shown(row["seconds"], ".1f"),
        }
        for row in rows
    ]
    print(pd.DataFrame(shown).to_string(index=False))
    if images:
        print(f"learnt: above the {reference['name']} line, accuracy {reference['accuracy']:.3f}")
    else:
        print(f"learnt: below the {reference['name']} line, {reference['loss']:.3f} nats")
    for result, text in zip(results, samples, strict=True):
        if text is not None:
            print(f"{result.arm} writes: {text!r}")


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
