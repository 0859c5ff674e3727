"""Train arms one after the other, from the same weights on the same batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from time import perf_counter
from typing import Any

from course_lib.runs.config import RunConfig
from course_lib.runs.records import Record
from course_lib.runs.run import Run
from course_lib.studies.arms import DEFAULT_ARMS, WARMUP, arm_config


@dataclass
class ArmResult:
    """An arm that was trained, to its end or until it was interrupted."""

    arm: str
    run: Run
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The row of compare.json."""
        verdict = self.run.verdict()
        last = self.run.records[-1]
        val_loss = last.val_loss
        reference = {name: value for name, value in asdict(verdict.reference).items() if value is not None}
        return {
            "arm": self.arm,
            # JSON has no NaN; the verdict tells that the run diverged.
            "final_val_loss": None if val_loss is None or not isfinite(val_loss) else val_loss,
            "final_val_accuracy": last.val_accuracy,
            "verdict": verdict.name,
            "learnt": verdict.learnt,
            "first_collapse_step": verdict.first_collapse_step,
            "seconds": round(self.seconds, 2),
            "seed": self.run.config.seed,
            "steps": self.run.updates,
            "finished": self.run.finished,
            "reference": reference,
            "config": self.run.config.to_dict(),
        }


def compare(
    base: RunConfig,
    arms: Iterable[str] = DEFAULT_ARMS,
    *,
    warmup: int = WARMUP,
    each_step: Callable[[str, Run, Record], None] | None = None,
) -> Iterator[ArmResult]:
    """Train arms one after the other from the same weights on the same batches.

    Args:
        base: the config that the arms change.
        arms: names from `course_lib.studies.arms.ARMS`.
        warmup: steps of warmup of the arms that have one.
        each_step: called with (arm, run, record) after every step, to show progress.

    Yields:
        Each arm's result when it is trained. On Ctrl-C the current arm is yielded unfinished, and then the
        KeyboardInterrupt is raised again.
    """
    configs = {arm: arm_config(base, arm, warmup) for arm in arms}
    for arm, config in configs.items():
        run = Run(config)
        start = perf_counter()
        try:
            for record in run:
                if each_step is not None:
                    each_step(arm, run, record)
        except KeyboardInterrupt:
            if run.records:
                yield ArmResult(arm, run, perf_counter() - start)
            raise
        yield ArmResult(arm, run, perf_counter() - start)
