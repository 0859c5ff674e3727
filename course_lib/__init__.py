"""Why Transformers crash without learning-rate warmup, and how the σ₁ bound tames them.

    import course_lib

    run = course_lib.Run(course_lib.preset("live", optimizer="adamw2", tau=0.05, seed=0))
    for record in run:
        print(record.step, record.loss)
    print(run.verdict())

After "Taming Transformer Without Using Learning Rate Warmup" (arXiv 2505.21910, ICLR 2025).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from course_lib.moved import keep_old_paths

if TYPE_CHECKING:
    from course_lib import probes
    from course_lib.lab import Lab
    from course_lib.models import GPT, FlattenSwin, GPTConfig, Swin, SwinConfig, ViT, ViTConfig
    from course_lib.optim import AdamW2, BoundedMatrix, SpectralBound, bounded_parameters
    from course_lib.runs import Record, Run, RunConfig, Snapshot, Verdict, preset
    from course_lib.studies import compare

__version__ = "0.1.0"

_ROOMS = {
    "lab": ("Lab",),
    "models": ("GPT", "FlattenSwin", "GPTConfig", "Swin", "SwinConfig", "ViT", "ViTConfig"),
    "optim": ("AdamW2", "BoundedMatrix", "SpectralBound", "bounded_parameters"),
    "runs": ("Record", "Run", "RunConfig", "Snapshot", "Verdict", "preset"),
    "studies": ("compare",),
}
"""Room → what it gives to the top level. A room is imported when its first name is asked for."""

__all__ = [
    "GPT",
    "AdamW2",
    "BoundedMatrix",
    "FlattenSwin",
    "GPTConfig",
    "Lab",
    "Record",
    "Run",
    "RunConfig",
    "Snapshot",
    "SpectralBound",
    "Swin",
    "SwinConfig",
    "Verdict",
    "ViT",
    "ViTConfig",
    "__version__",
    "bounded_parameters",
    "compare",
    "preset",
    "probes",
]


def __getattr__(name: str) -> Any:
    if name == "probes":
        return import_module("course_lib.probes")
    for room, names in _ROOMS.items():
        if name in names:
            value = getattr(import_module(f"course_lib.{room}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


keep_old_paths()
