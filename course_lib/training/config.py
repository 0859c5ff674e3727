"""Everything that defines a run, as one frozen dataclass."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypedDict

from course_lib import checks
from course_lib.data import TASKS
from course_lib.models import GROUPS, GPTConfig
from course_lib.optim.adamw2 import check_betas
from course_lib.training.schedule import Schedule, tabulate

OPTIMIZERS = ("adamw", "adamw2")


class GroupSettings(TypedDict, total=False):
    """What a parameter group has of its own; what is left out it shares with the run."""

    lr_multiplier: float
    warmup: int
    tau: float | None


def _option(default: Any, text: str) -> Any:
    """A field with the line that the command line's help shows for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class RunConfig:
    """What a run is made of. The same config on the same machine gives the same run."""

    task: str = _option("text", "what to learn: copy, recall or text")
    text: str | None = _option(None, "a text file of your own, for the task text")
    seed: int = _option(0, "seed of weights and batches")
    steps: int = _option(300, "number of updates")
    batch: int = _option(16, "sequences per step")

    context: int = _option(64, "symbols per sequence")
    d_model: int = _option(128, "width of the residual stream")
    heads: int = _option(4, "attention heads per layer")
    layers: int = _option(2, "blocks")
    norm: str = _option("pre", "LayerNorm before each branch (pre) or after the sum (post)")
    attention: str = _option("softmax", "softmax, sigmoid, relu2, identity or uniform")
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
        checks.choice("task", self.task, TASKS)
        if checks.count("seed", self.seed, least=0) >= 2**63:
            raise ValueError(f"seed is {self.seed}: expected less than 2**63")
        if self.text is not None and not isinstance(self.text, str | os.PathLike):
            raise ValueError(f"text is {self.text!r}: expected the path of a text file, or None")
        self.model_config(vocab=1)
        checks.choice("optimizer", self.optimizer, OPTIMIZERS)
        checks.count("probe_every", self.probe_every, least=0)
        check_betas(self.betas)
        clip, positive = self.clip, "a positive number, or None"
        # Plain values: numpy's numbers, a list of betas or a dict that the caller goes on changing would
        # not be what a file keeps.
        clean = {
            **{name: checks.count(name, getattr(self, name)) for name in ("steps", "batch")},
            "seed": int(self.seed),
            "text": None if self.text is None else os.fspath(self.text),
            "lr": check_lr(self.lr),
            "warmup": check_warmup(self.warmup, self.steps),
            "tau": check_tau(self.tau),
            "schedule": tabulate(self.schedule, self.steps),
            "betas": tuple(float(beta) for beta in self.betas),
            "eps": checks.number("eps", self.eps, "a positive number such as 1e-8"),
            "weight_decay": checks.number(
                "weight_decay", self.weight_decay, "a number of at least 0", zero=True
            ),
            "clip": None if clip is None else checks.number("clip", clip, f"{positive} for no clipping"),
            "groups": check_groups(self.groups, self.steps, self.optimizer),
        }
        for name, value in clean.items():
            object.__setattr__(self, name, value)

    def model_config(self, vocab: int) -> GPTConfig:
        """The model's sizes, once the task has told how many symbols there are."""
        return GPTConfig(
            vocab=vocab,
            context=self.context,
            d_model=self.d_model,
            heads=self.heads,
            layers=self.layers,
            norm=self.norm,
            attention=self.attention,
            qk_norm=self.qk_norm,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `RunConfig(**d)` makes the config again."""
        plain = asdict(self)
        factors = tabulate(self.schedule, self.steps)
        plain["schedule"] = factors if isinstance(factors, str) else list(factors)
        plain["betas"] = list(self.betas)
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
    if tau is None:
        return None
    return checks.number("tau", tau, "a positive number, or None for no bound; try 0.05")


def check_groups(groups: Mapping[str, GroupSettings], steps: int, optimizer: str) -> dict[str, GroupSettings]:
    """A copy of the groups' settings, once every group and every setting exists and is in range."""
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


MODEL_FIELDS = ("context", "d_model", "heads", "layers", "norm", "attention", "qk_norm")
"""Fields of a config that the model is made of."""


def without_tau(settings: GroupSettings) -> GroupSettings:
    """A group's settings for AdamW, which has no bound."""
    plain = settings.copy()
    plain.pop("tau", None)
    return plain


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
}
"""Runs that crash without warmup, from three seconds to two minutes on two cores; gpt2-124m takes hours."""


def preset(name: str, **overrides: Any) -> RunConfig:
    """The named preset, with the given fields changed.

    Raises:
        ValueError: there is no such preset or field, or a value is out of range.
    """
    checks.choice("preset", name, PRESETS)
    for field_name in overrides:
        checks.choice("option", field_name, [f.name for f in fields(RunConfig)])
    return replace(PRESETS[name], **overrides)
