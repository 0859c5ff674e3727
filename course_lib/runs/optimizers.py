"""The optimizers of a run. Only this module of the room knows how AdamW² differs from a torch optimizer."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_lib.distributed.sharding import sharded_like
from course_lib.models import parameter_groups
from course_lib.optim import AdamW2, BoundReport
from course_lib.optim.limit import KNOWN as ESTIMATES
from course_lib.runs.config import RunConfig


def make_optimizer(config: RunConfig, model: nn.Module) -> Optimizer:
    """The optimizer of a config, with a group for each of the model's parameter groups."""
    groups = [
        {
            "params": list(members.items()),
            "name": name,
            # Gains and shifts of LayerNorms are not shrunk towards zero.
            "weight_decay": 0.0 if name == "norm" else config.weight_decay,
        }
        for name, members in parameter_groups(model).items()
    ]
    if config.optimizer == "adamw2":
        return AdamW2(groups, lr=config.lr, tau=None, betas=config.betas, eps=config.eps)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def set_rates(optimizer: Optimizer, lr: Callable[[str], float], tau: Callable[[str], float | None]) -> None:
    """Give each group the learning rate and, under AdamW², the τ of its name."""
    for group in optimizer.param_groups:
        group["lr"] = lr(group["name"])
        if isinstance(optimizer, AdamW2):
            group["tau"] = tau(group["name"])


def reports(optimizer: Optimizer) -> Mapping[str, BoundReport]:
    """Return parameter name → what the bound did in the last step; empty without a bound."""
    return optimizer.last_step if isinstance(optimizer, AdamW2) else {}


def decay_of_last_step(optimizer: Optimizer) -> dict[str, float | Tensor]:
    """Return parameter name → α·λ, the share by which weight decay shrank it; no transfer to the host."""
    known, shares = reports(optimizer), {}
    for group in optimizer.param_groups:
        for name in group["param_names"]:
            lr = known[name].lr if name in known else group["lr"]
            if isinstance(lr, Tensor) and lr.device.type != "mps":  # 1 − α·λ is rounded once, as on the host
                lr = lr.double()
            shares[name] = lr * group["weight_decay"]
    return shares


def state_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's state, not copied: "<position>.<key>" → tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{position}.{key}": value for position, kept in state.items() for key, value in kept.items()}


def load_state_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Copy into an optimizer what `state_tensors` returned, for AdamW or AdamW².

    AdamW takes AdamW²'s moments without the estimates of σ₁. AdamW² starts missing estimates from nothing.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        position, _, key = name.partition(".")
        if key in ESTIMATES and not isinstance(optimizer, AdamW2):
            continue
        # Moments are sharded like their parameter. All other state is the same in all processes.
        moment = tensor.ndim > 0 and key not in ESTIMATES
        own = sharded_like(tensor, parameters[int(position)]) if moment else tensor
        state.setdefault(int(position), {})[key] = own.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
