"""Everything that defines a run, as one frozen dataclass."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict

from course_lib import checks
from course_lib.data import IMAGE_TASKS, TASKS
from course_lib.deprecated import renamed
from course_lib.models import GROUPS, GPTConfig, SwinConfig, ViTConfig
from course_lib.models.swin import check_depths
from course_lib.optim.adamw2 import check_betas
from course_lib.runs.schedule import Schedule, tabulate

OPTIMIZERS = ("adamw", "adamw2")

MODELS: dict[str, tuple[str, ...]] = {
    "gpt": TASKS,
    "vit": IMAGE_TASKS,
    "swin": IMAGE_TASKS,
    "flatten-swin": IMAGE_TASKS,
}
"""Model → the tasks it can learn."""


class GroupSettings(TypedDict, total=False):
    """A parameter group's own settings. It shares all others with the run."""

    lr_multiplier: float
    warmup: int
    tau: float | None


def _option(default: Any, text: str) -> Any:
    """A field with its line in the command line's help."""
    return field(default=default, metadata={"help": text})


RENAMED = {"resolution": "image_size"}
"""Old name of a field → its name now. Old names are still accepted."""


@renamed(**RENAMED)
@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run. The same config on the same machine gives the same run."""

    task: str = _option("text", "what to learn: copy, recall, text, fashion-mnist or fashion-mnist-full")
    text: str | None = _option(None, "a text file of your own, for the task text")
    folder: str | None = _option(None, "a folder of images of your own, for the task fashion-mnist-full")
    seed: int = _option(0, "seed of weights and batches")
    steps: int = _option(300, "number of updates")
    batch: int = _option(16, "sequences or images per step")
    augment: bool = _option(True, "flip training images, and move them, at random")

    model: str = _option("gpt", "gpt, or for images vit, swin or flatten-swin")
    context: int = _option(64, "symbols per sequence (gpt)")
    d_model: int = _option(128, "width of the residual stream (Swin's first stage)")
    heads: int = _option(4, "attention heads per layer (Swin's first stage)")
    layers: int = _option(2, "blocks (gpt, vit)")
    depths: tuple[int, ...] = _option((2, 4), "blocks of each of Swin's stages")
    image_size: int = _option(28, "side of images, in pixels; the task's are scaled to it")
    patch: int = _option(4, "side of a patch of an image, in pixels")
    stem: str = _option("patch", "what makes patches tokens: one convolution (patch) or several (conv)")
    window: int = _option(7, "side of Swin's windows, in patches")
    norm: str = _option("pre", "LayerNorm before each branch (pre) or after the sum (post)")
    attention: str = _option("softmax", "softmax, sigmoid, relu2, identity, uniform or focused")
    qk_norm: bool = _option(False, "LayerNorm on queries and keys")

    optimizer: str = _option("adamw", "adamw or adamw2")
    lr: float = _option(1e-2, "learning rate")
    warmup: int = _option(0, "steps of linear warmup, 0 for none")
    tau: float | None = _option(0.05, "τ of AdamW², 'off' for no bound (adamw has none)")
    schedule: Schedule = _option(  # noqa: RUF009 (its default is a str)
        "cosine", "cosine (to 10 %) or constant; in Python also a function or a list"
    )
    betas: tuple[float, float] = _option((0.9, 0.95), "decay of Adam's two moments")
    eps: float = _option(1e-8, "Adam's ε")
    weight_decay: float = _option(0.1, "decoupled weight decay, of all but LayerNorms")
    clip: float | None = _option(None, "largest norm of the whole gradient, 'off' for no clipping")
    groups: Mapping[str, GroupSettings] = field(default_factory=dict)
    """Settings of single parameter groups, such as {"qk": {"warmup": 0, "tau": None}}."""

    probe_every: int = _option(10, "steps between probes, 0 for none")
    device: str = _option("auto", "auto, cpu, cuda, cuda:1, mps")

    def __post_init__(self) -> None:
        checks.choice("task", self.task, (*TASKS, *IMAGE_TASKS))
        checks.flag("augment", self.augment)
        self._check_model()
        if checks.count("seed", self.seed, least=0) >= 2**63:
            raise ValueError(f"seed is {self.seed}: expected less than 2**63")
        for name, what in (("text", "a text file"), ("folder", "a folder of images")):
            path = getattr(self, name)
            if path is not None and not isinstance(path, str | os.PathLike):
                raise ValueError(f"{name} is {path!r}: expected the path of {what}, or None")
        object.__setattr__(self, "depths", check_depths(self.depths))
        self.model_config(n_outputs=1)
        checks.choice("optimizer", self.optimizer, OPTIMIZERS)
        checks.count("probe_every", self.probe_every, least=0)
        check_betas(self.betas)
        at_least_0 = "a number of at least 0"
        # A file keeps plain values, so numpy's numbers, lists and dicts of the caller are converted.
        clean = {
            **{name: checks.count(name, getattr(self, name)) for name in ("steps", "batch")},
            "seed": int(self.seed),
            "text": None if self.text is None else os.fspath(self.text),
            "folder": None if self.folder is None else os.fspath(self.folder),
            "lr": check_lr(self.lr),
            "warmup": check_warmup(self.warmup, self.steps),
            "tau": check_tau(self.tau),
            "schedule": tabulate(self.schedule, self.steps),
            "betas": tuple(float(beta) for beta in self.betas),
            "eps": checks.number("eps", self.eps, "a positive number such as 1e-8"),
            "weight_decay": checks.number("weight_decay", self.weight_decay, at_least_0, zero=True),
            "clip": check_optional("clip", self.clip, "for no clipping"),
            "groups": check_groups(self.groups, self.steps, self.optimizer),
        }
        for name, value in clean.items():
            object.__setattr__(self, name, value)

    def _check_model(self) -> None:
        if self.task not in MODELS[checks.choice("model", self.model, MODELS)]:
            able = [name for name, tasks in MODELS.items() if self.task in tasks]
            raise ValueError(
                f"model is {self.model!r}: expected {', '.join(able)} for the task {self.task!r}; "
                f"try the preset {able[0] if self.task in IMAGE_TASKS else 'live'!r}, or another task"
            )
        if self.model == "flatten-swin" and self.attention not in ("focused", "uniform"):
            raise ValueError(
                f"attention is {self.attention!r}: expected 'focused' (or 'uniform') for the model "
                "'flatten-swin'; try model='swin', or the preset 'flatten-swin'"
            )

    def model_config(self, n_outputs: int, channels: int = 1) -> GPTConfig | ViTConfig | SwinConfig:
        """The model's sizes, for the numbers of outputs and channels that the task has."""
        names = ("d_model", "heads", "norm", "attention", "qk_norm")
        shared: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.model == "gpt":
            return GPTConfig(vocab=n_outputs, context=self.context, layers=self.layers, **shared)
        shared |= {name: getattr(self, name) for name in ("image_size", "patch", "stem")}
        shared |= {"n_classes": n_outputs, "channels": channels}
        if self.model == "vit":
            return ViTConfig(layers=self.layers, **shared)
        window = self.window if self.model == "swin" else None
        return SwinConfig(depths=self.depths, window=window, **shared)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold. `RunConfig(**d)` makes the config from them."""
        plain = asdict(self)
        factors = tabulate(self.schedule, self.steps)
        plain["schedule"] = factors if isinstance(factors, str) else list(factors)
        plain["betas"], plain["depths"] = list(self.betas), list(self.depths)
        return plain


def check_lr(lr: float) -> float:
    """A learning rate has to be positive and finite."""
    return checks.number("lr", lr, "a positive number; try 0.01")


def check_warmup(warmup: int, steps: int) -> int:
    """Warmup has to be a number of steps that fits into the run."""
    if checks.count("warmup", warmup, least=0) > steps:
        raise ValueError(f"warmup is {warmup}: expected at most {steps}, the steps of the run")
    return int(warmup)


def check_tau(tau: float | None) -> float | None:
    """τ has to be positive and finite, or None for no bound."""
    return check_optional("tau", tau, "for no bound; try 0.05")


def check_optional(name: str, value: float | None, hint: str) -> float | None:
    """Return a positive and finite number as a float, and None as it is."""
    return None if value is None else checks.number(name, value, f"a positive number, or None {hint}")


def check_groups(groups: Mapping[str, GroupSettings], steps: int, optimizer: str) -> dict[str, GroupSettings]:
    """Check that every group and every setting exists and is in range, and return a copy of them."""
    example = "such as {'qk': {'warmup': 0}}"
    if not isinstance(groups, Mapping):
        raise ValueError(f"groups is {groups!r}: expected settings by group, {example}")
    for group, settings in groups.items():
        checks.choice("group", group, GROUPS)
        if not isinstance(settings, Mapping):
            raise ValueError(f"group {group!r} is {settings!r}: expected its settings, {example}")
        for name in settings:
            checks.choice(f"setting of group {group!r}", name, GroupSettings.__annotations__)
        if "lr_multiplier" in settings:
            multiplier = settings["lr_multiplier"]
            checks.number(f"lr_multiplier of {group!r}", multiplier, "a number of at least 0", zero=True)
        if "warmup" in settings:
            check_warmup(settings["warmup"], steps)
        if settings.get("tau") is not None:
            check_tau(settings["tau"])
            if optimizer != "adamw2" or group == "norm":
                why = "holds no matrix" if group == "norm" else "has no bound under adamw"
                raise ValueError(
                    f"tau of group {group!r} is {settings['tau']}: expected none, the group {why}; "
                    "try optimizer='adamw2' and a group of matrices"
                )
    return {group: settings.copy() for group, settings in groups.items()}


MODEL_FIELDS = (
    *("model", "context", "d_model", "heads", "layers", "norm", "attention", "qk_norm"),
    *("depths", "image_size", "patch", "stem", "window"),
)
"""Fields of a config that define the model."""


def without_tau(settings: GroupSettings) -> GroupSettings:
    """A group's settings for AdamW, which has no bound."""
    plain = settings.copy()
    plain.pop("tau", None)
    return plain
