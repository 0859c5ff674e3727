"""AdamW²: AdamW whose step moves no matrix by more than a share τ of its own size.

Source: the abstract of "Taming Transformer Without Using Learning Rate Warmup" (arXiv 2505.21910,
ICLR 2025): whenever σ₁(α·ΔW)/σ₁(W) exceeds τ, the learning rate is cut so that it equals τ.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from course_lib import checks
from course_lib.optim.bounded import bounded_parameters
from course_lib.optim.limit import Known, Limit, Split, is_sharded, matrices_of, parts_of
from course_lib.sharding import local

CHUNK = {"cpu": 2**18}
"""Elements of the matrices that are stepped together, by type of device: so many that Python's share of the
time is small, so few that they stay in the CPU's cache between the passes that a step makes over them."""
ACCELERATOR_CHUNK = 2**24


KNOWN = ("block_weight", "block_update", "sigma_low")
"""What `state` holds of a bounded parameter besides AdamW's own."""


@dataclass(frozen=True)
class BoundReport:
    """What the bound did to a parameter in the last step: 0-dim tensors on its device, (parts,) if split."""

    rho: Tensor
    """ρ = α σ₁(ΔW)/σ₁(W) with the learning rate as asked for, before any cut. On the CPU, where an upper
    bound of ρ is enough to see that it does not exceed τ, this is the upper bound."""
    lr: Tensor
    """α, the learning rate used."""
    bound: Tensor
    """bool: whether ρ exceeded τ, so that α was cut."""


class AdamW2(Optimizer):
    """AdamW with the σ₁ bound (AdamW²).

    The update ΔW = m̂/(√v̂ + ε) is AdamW's. For a bounded matrix W the learning rate of this step is

        α = min(lr, τ σ₁(W) / σ₁(ΔW)),

    so that by Weyl's inequality σ₁(W − αΔW) ≤ (1 + τ) σ₁(W). Decay stays decoupled, W ← (1 − αλ)W − αΔW,
    with the α that was used. Both σ₁ are estimated by power iteration from the last step's vectors;
    σ₁(W) counts as at least `SIGMA_FLOOR`. A non-finite gradient does what it does in AdamW.

    The bound holds as far as σ₁(ΔW) is known. In training the estimate was short by less than 0.5 % in every
    step (bench/sigma.py); where every gradient is drawn anew, as in no training, by up to about 12 %.

    Args:
        params: a model, whose matrices inside the blocks are bounded and nothing else
            (`bounded_parameters`); or parameters, named parameters or param groups as for any
            `torch.optim.Optimizer`. A group's own `tau` bounds its matrices (two or more dimensions;
            vectors never); `tau=None` leaves a group to plain AdamW. A group's `split=(dim, parts)` says
            that each of its parameters holds several matrices side by side (fused q, k and v), each of which
            is bounded on its own.
        lr: learning rate asked for, per step.
        tau: τ, the largest share of σ₁(W) that one step may move; None switches the bound off.
        betas: decay of the two moments, each in [0, 1).
        eps: added to √v̂.
        weight_decay: λ.
        maximize: ascend instead of descend.

    Raises:
        ValueError: a value out of range, or a sparse or complex gradient.
    """

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        lr: float = 1e-3,
        *,
        tau: float | None = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        maximize: bool = False,
    ) -> None:
        if isinstance(params, nn.Module):
            params = _groups_of(params, tau)
        defaults = {
            "lr": lr,
            "tau": tau,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "split": (0, 1),
        }
        self._forget()
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        """Start anew with what is not kept in `state_dict`."""
        self._reports: dict[str, BoundReport] = {}
        # What each bounded parameter's version counter stood at after our last step: if it has moved since,
        # somebody else has changed the matrix, and what is known of its σ₁ holds no more.
        self._versions: dict[Tensor, int] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a saved state, also that of a plain AdamW, whose groups have no `tau`: then ours stay."""
        own = [{name: group[name] for name in ("tau", "split")} for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, ours in zip(self.param_groups, own, strict=True):
            for name, value in ours.items():
                group.setdefault(name, value)
        self._forget()

    @property
    def last_step(self) -> dict[str, BoundReport]:
        """Parameter name (its position, where it has no name) → what the bound did in the last step."""
        return dict(self._reports)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step; with a closure, evaluate it first and return its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._reports = {}
        work = list(self._with_gradients())
        for _, members in work:  # all of them before the first is moved
            for name, parameter in members:
                self._prepare(name, parameter)
        for group, members in work:
            bounded = [(n, p) for n, p in members if group["tau"] is not None and p.ndim >= 2]
            names = {n for n, _ in bounded}
            free = [p for n, p in members if n not in names]
            self._adamw(
                [local(p) for p in free], free, group, lr=group["lr"], weight_decay=group["weight_decay"]
            )
            for chunk in _chunks(bounded, group["split"]):
                self._bounded_step(chunk, group)
        return loss

    def _with_gradients(self) -> Iterator[tuple[dict[str, Any], list[tuple[str, Tensor]]]]:
        """Each group, with the names and parameters that have a gradient."""
        position = 0
        for group in self.param_groups:
            names = group.get("param_names")
            names = names or [str(position + i) for i in range(len(group["params"]))]
            position += len(group["params"])
            found = zip(names, group["params"], strict=True)
            yield group, [(name, p) for name, p in found if p.grad is not None]

    def _prepare(self, name: str, parameter: Tensor) -> None:
        grad = parameter.grad
        assert grad is not None
        if grad.is_sparse or grad.is_complex():
            kind = "sparse" if grad.is_sparse else "complex"
            raise ValueError(
                f"gradient of {name} is {kind}: expected a dense real one; "
                "leave this parameter to another optimizer"
            )
        state = self.state[parameter]
        if "exp_avg" not in state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        # The fused kernel of an accelerator counts there; elsewhere counting on the CPU is no sync.
        place = parameter.device if parameter.device.type == "cuda" else torch.device("cpu")
        if state["step"].device != place:
            state["step"] = state["step"].to(place)

    def _adamw(
        self,
        targets: list[Tensor],
        parameters: list[Tensor],
        group: dict[str, Any],
        *,
        lr: float,
        weight_decay: float,
    ) -> None:
        """torch's own AdamW step with the gradients and moments of `parameters`, made on `targets`."""
        if not parameters:
            return
        states = [self.state[p] for p in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            targets,
            [local(p.grad) for p in parameters if p.grad is not None],
            [local(s["exp_avg"]) for s in states],
            [local(s["exp_avg_sq"]) for s in states],
            [],
            [s["step"] for s in states],
            fused=all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=weight_decay,
            eps=group["eps"],
            maximize=group["maximize"],
        )

    def _bounded_step(self, chunk: list[tuple[str, Tensor]], group: dict[str, Any]) -> None:
        """Step parameters whose matrices have one shape, each at its own learning rate."""
        parameters = [p for _, p in chunk]
        split, decay = group["split"], group["weight_decay"]
        # AdamW at a learning rate of one, from zero, leaves −ΔW.
        scratch = [torch.zeros_like(local(p)) for p in parameters]
        self._adamw(scratch, parameters, group, lr=1.0, weight_decay=0.0)
        weights = [m for p in parameters for m in _matrices(local(p), p, split)]
        updates = [m for u, p in zip(scratch, parameters, strict=True) for m in _matrices(u, p, split)]
        known = self._known(parameters, weights, split)
        limit = Limit.of(weights, updates, known, group["lr"], group["tau"])
        lr, bound = limit.allowed(group["lr"], group["tau"])
        rho = limit.rho(group["lr"])
        for view, update, alpha in zip(
            (v for p in parameters for v in parts_of(local(p), split)),
            (v for u in scratch for v in parts_of(u, split)),
            _factors(lr, parameters[0].dtype),
            strict=True,
        ):
            if decay:
                view.mul_(1 - alpha * decay)
            view.add_(update * alpha) if isinstance(alpha, Tensor) else view.add_(update, alpha=alpha)
        # Weyl: decay takes a share αλ of σ₁(W), the update no more than α‖ΔW‖_F.
        low = known.sigma_low * (1 - lr * decay) - lr * limit.frobenius
        known.sigma_low = torch.where(low > 0, low, 0.0)  # of a NaN nothing is known
        self._remember(parameters, known, split)
        for i, (name, _) in enumerate(chunk):
            each = slice(i * split[1], (i + 1) * split[1]) if split[1] > 1 else i
            self._reports[name] = BoundReport(rho[each], lr[each], bound[each])

    def _known(self, parameters: list[Tensor], weights: list[Tensor], split: Split) -> Known:
        states = [self.state[p] for p in parameters]
        if not all("block_weight" in s for s in states):
            return Known.nothing(weights)
        weight, update, low = (torch.cat([s[n] for s in states]).to(weights[0].dtype) for n in KNOWN)
        known = Known(weight, update, low)
        for i, p in enumerate(parameters):
            if self._versions.get(p, p._version) != p._version:
                known.cold = True
                known.sigma_low[i * split[1] : (i + 1) * split[1]] = 0.0
        return known

    def _remember(self, parameters: list[Tensor], known: Known, split: Split) -> None:
        for name in KNOWN:
            for p, part in zip(parameters, getattr(known, name).split(split[1]), strict=True):
                self.state[p][name] = part
        self._versions |= {p: p._version for p in parameters}


def _chunks(members: list[tuple[str, Tensor]], split: Split) -> Iterator[list[tuple[str, Tensor]]]:
    """Parameters whose matrices have one shape (or its transpose), in portions that fit the cache."""
    alike: dict[Any, list[tuple[str, Tensor]]] = {}
    for name, parameter in members:
        if is_sharded(parameter):
            yield [(name, parameter)]
            continue
        shape = frozenset(matrices_of(parameter, split)[0].shape)
        alike.setdefault((shape, parameter.dtype, parameter.device), []).append((name, parameter))
    for found in alike.values():
        parameter = found[0][1]
        limit = CHUNK.get(parameter.device.type, ACCELERATOR_CHUNK)
        n = max(1, limit // max(1, parameter.numel()))
        yield from (found[i : i + n] for i in range(0, len(found), n))


def _matrices(held: Tensor, parameter: Tensor, split: Split) -> list[Tensor]:
    """`matrices_of` a tensor of the parameter's shape, of which this process holds `held`."""
    if not is_sharded(parameter):
        return matrices_of(held, split)
    from course_lib.optim.sharded import (
        sharded_matrix,
    )  # imports torch.distributed.tensor, which takes a while

    if split[1] > 1 and split[0] == 0:
        raise ValueError(
            f"split is {split} of a parameter that is sharded by rows: expected parts side by side along "
            "dimension 1, or none; bound this parameter as a whole, or keep it unsharded"
        )
    rows = cast(Any, parameter)  # a DTensor, as is_sharded has found
    return [sharded_matrix(part.flatten(1), rows) for part in parts_of(held, split)]


def _factors(lr: Tensor, dtype: torch.dtype) -> list[Any]:
    """The learning rates one by one: numbers on the CPU; an accelerator keeps them."""
    return lr.tolist() if lr.device.type == "cpu" else list(lr.to(dtype).unbind())


def _groups_of(model: nn.Module, tau: float | None) -> list[dict[str, Any]]:
    """The bounded matrices, a group for each way to split, and all else."""
    bounded = bounded_parameters(model)
    groups: dict[Any, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        split = bounded[name].split if name in bounded else None
        if split not in groups:
            groups[split] = {"params": [], "tau": None if split is None else tau, "split": split or (0, 1)}
        groups[split]["params"].append((name, parameter))
    return list(groups.values())


def _check_group(group: dict[str, Any]) -> None:
    checks.number("lr", group["lr"], "a number of at least 0", zero=True)
    checks.number("eps", group["eps"], "a number of at least 0", zero=True)
    checks.number("weight_decay", group["weight_decay"], "a number of at least 0", zero=True)
    check_betas(group["betas"])
    if group["tau"] is not None:
        checks.number("tau", group["tau"], "a positive number, or None for no bound; try 0.05")


def check_betas(betas: tuple[float, float]) -> None:
    """Both decay rates have to be numbers in [0, 1)."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas is {betas}: expected two numbers, such as (0.9, 0.95)")
    for beta in betas:
        if checks.number("betas", beta, "two numbers in [0, 1)", zero=True) >= 1:
            raise ValueError(f"betas is {tuple(betas)}: expected two numbers in [0, 1), such as (0.9, 0.95)")
