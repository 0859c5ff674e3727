"""Runs by name."""

from dataclasses import fields, replace
from typing import Any

from course_lib import checks
from course_lib.data import IMAGE_TASKS
from course_lib.runs.config import MODELS, RENAMED, RunConfig

_IMAGES: dict[str, Any] = {"task": "fashion-mnist", "betas": (0.9, 0.999)}

# Five epochs: too few to overfit, and augmentation only costs accuracy. 4² tokens make a short run. The bound
# is tighter than elsewhere: with batches of 16, τ = 0.05 ended four points lower (mean of three seeds).
_VIT = RunConfig(
    **_IMAGES,
    augment=False,
    model="vit",
    image_size=32,
    patch=8,
    stem="conv",
    d_model=64,
    heads=4,
    layers=4,
    batch=64,
    lr=2e-2,
    tau=0.02,
    steps=800,
    probe_every=20,
)

# Scaled to 32 pixels, an image is a map of 8² tokens, which windows of 4² tile, and can be shifted over.
_SWIN = RunConfig(
    task="fashion-mnist",
    augment=False,
    model="swin",
    image_size=32,
    patch=4,
    stem="conv",
    window=4,
    d_model=32,
    heads=2,
    depths=(2, 2),
    batch=16,
    lr=1e-2,
    steps=600,
    probe_every=20,
)

PRESETS: dict[str, RunConfig] = {
    "copy": RunConfig(task="copy", context=32, d_model=64, lr=5e-2, steps=300),
    "recall": RunConfig(task="recall", context=32, d_model=64, lr=1e-2, steps=400),
    "live": RunConfig(task="text", context=64, d_model=128, lr=1e-2, steps=300),
    "study": RunConfig(task="text", context=64, d_model=128, layers=4, batch=32, lr=1e-2, steps=600),
    # The blocks and positions of GPT-2 small, but the task's vocabulary: 85.9 million parameters with the 62
    # symbols of the King James text (85.0 in the blocks, 0.8 positions, 0.1 embedding and head together). The
    # other 38.6 of GPT-2's 124 million are the embedding of its 50,257 tokens. Two sequences a step, so that
    # two processes can share them; a step takes 3.3 GB and half a minute on two cores. No probes: each would
    # take an SVD of every map of 1,024², which is minutes.
    "gpt2-124m": RunConfig(
        task="text",
        context=1024,
        d_model=768,
        heads=12,
        layers=12,
        batch=2,
        lr=6e-4,
        steps=600,
        probe_every=0,
    ),
    "vit": _VIT,
    "swin": _SWIN,
    "flatten-swin": replace(_SWIN, model="flatten-swin", attention="focused", lr=3e-2),
    # Nineteen epochs at a learning rate at which nothing crashes: there augmentation pays.
    "vit-study": replace(_VIT, augment=True, lr=1e-3, steps=3000, probe_every=50),
    # ViT-B/16 and Swin-T at 224 pixels, to which the task's images are scaled. They are as large as in their
    # papers but for the first convolution (one channel) and the head (ten classes). No probes: see gpt2-124m.
    "vit-b": RunConfig(
        **_IMAGES,
        model="vit",
        image_size=224,
        patch=16,
        d_model=768,
        heads=12,
        layers=12,
        batch=8,
        lr=1e-3,
        steps=600,
        probe_every=0,
    ),
    "swin-t": RunConfig(
        **_IMAGES,
        model="swin",
        image_size=224,
        patch=4,
        d_model=96,
        heads=3,
        depths=(2, 2, 6, 2),
        batch=8,
        lr=1e-3,
        steps=600,
        probe_every=0,
    ),
}
"""Runs from three seconds to some minutes on two cores; those of a paper's size (gpt2-124m, vit-b, swin-t)
take hours. Without warmup copy, live and study end in malignant collapse on every seed that was tried, vit on
most, recall on some; swin and flatten-swin do not learn, and most stall. vit-study does not crash: it shows
what the model can learn. What becomes of vit-b and swin-t over seeds is not measured."""


def preset_of(model: str | None, task: str | None = None) -> str:
    """The preset that a model is trained with, or a task learnt with, where none is named."""
    if model is None:
        return "vit" if task in IMAGE_TASKS else "live"
    return "live" if checks.choice("model", model, MODELS) == "gpt" else model


def preset(name: str, **overrides: Any) -> RunConfig:
    """The named preset, with the given fields changed.

    Raises:
        ValueError: there is no such preset or field, or a value is out of range.
    """
    checks.choice("preset", name, PRESETS)
    for field_name in overrides.keys() - RENAMED:
        checks.choice("option", field_name, [f.name for f in fields(RunConfig)])
    return replace(PRESETS[name], **overrides)
