"""Why Transformers crash without learning-rate warmup, and how the σ₁ bound tames them.

    import course_lib

    run = course_lib.Run(course_lib.preset("live", optimizer="adamw2", tau=0.05, seed=0))
    for record in run:
        print(record.step, record.loss)
    print(run.verdict())

After "Taming Transformer Without Using Learning Rate Warmup" (arXiv 2505.21910, ICLR 2025).
"""

from course_lib.models import GPT, GPTConfig
from course_lib.optim import AdamW2, BoundedMatrix, SpectralBound, bounded_parameters
from course_lib.runs import Record, Run, RunConfig, Snapshot, Verdict, preset

__all__ = [
    "GPT",
    "AdamW2",
    "BoundedMatrix",
    "GPTConfig",
    "Record",
    "Run",
    "RunConfig",
    "Snapshot",
    "SpectralBound",
    "Verdict",
    "bounded_parameters",
    "preset",
]
