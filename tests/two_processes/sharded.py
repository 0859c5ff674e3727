"""Under torchrun: σ₁ of sharded matrices, and a GPT under fully_shard; writes what was found as JSON."""

import json
import sys
from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from course_lib.data import make_task
from course_lib.distributed.process_group import destroy_process_group, init_process_group
from course_lib.distributed.sharding import local, whole
from course_lib.models import GPT, GPTConfig
from course_lib.optim import AdamW2, SpectralBound
from course_lib.optim.limit import KNOWN, look
from course_lib.optim.sharded import sharded_matrix
from course_lib.optim.sigma import as_matrix, start_block
from course_lib.optim.sigma import kept as kept_block

SHAPES = [(64, 64), (65, 33), (33, 65), (1, 8), (8, 1), (1, 1), (6, 3, 2, 2)]
"""Odd numbers of rows, and a process without any."""
TAU = 0.2


class Traffic:
    """Counts the numbers that collectives move while the block runs, and the most in one of them."""

    def __enter__(self):
        self.total = self.largest = 0
        self.kept = {name: getattr(dist, name) for name in ("all_reduce", "all_gather")}
        for name, function in self.kept.items():
            setattr(dist, name, self.counting(function))
        return self

    def __exit__(self, *error):
        for name, function in self.kept.items():
            setattr(dist, name, function)

    def counting(self, function):
        def call(moved, *arguments, **options):
            size = sum(t.numel() for t in moved) if isinstance(moved, list) else moved.numel()
            self.total += size
            self.largest = max(self.largest, size)
            return function(moved, *arguments, **options)

        return call


def looked(stack):
    """σ₁ of a stack of one matrix, after three looks as the optimizers take them, and the next vectors."""
    block = start_block(stack)
    for _ in range(3):
        seen = look(block, [stack])
        block = seen.block
    return seen.sigma, block


def estimate(shape, mesh, dtype=torch.float32):
    """Estimates of a whole and of a sharded matrix, their blocks' difference, and the traffic."""
    whole = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    parameter = distribute_tensor(whole, mesh, [Shard(0)])
    matrix = as_matrix(whole.flatten(1))[None]
    start = start_block(matrix)
    assert torch.equal(start, start_block(sharded_matrix(parameter, parameter)))
    with Traffic() as traffic:
        sigma, block = looked(sharded_matrix(parameter, parameter))
    again, _ = looked(sharded_matrix(parameter.to_local().flatten(1), parameter))
    expected, expected_block = looked(matrix)
    assert type(sigma) is torch.Tensor
    assert sigma.shape == (1,)
    assert torch.equal(sigma, again)
    ranks = [torch.empty_like(sigma) for _ in range(2)]
    dist.all_gather(ranks, sigma)
    return {
        "shape": shape,
        "relative": ((sigma - expected).abs() / expected).item(),
        "block": (block - expected_block).abs().max().item(),
        "same": torch.equal(*ranks),
        "traffic": traffic.total,
        "largest": traffic.largest,
        "vectors": min(start.shape[1:]),
    }


def refused(mesh):
    """The errors for what is not sharded by rows, and for a shard of other rows."""
    whole = torch.zeros(4, 4)
    parameter = distribute_tensor(whole, mesh, [Shard(0)])
    messages = []
    for like, shard in [
        (distribute_tensor(whole, mesh, [Shard(1)]), whole),
        (distribute_tensor(whole, mesh, [Replicate()]), whole),
        (parameter, torch.zeros(3, 4)),
    ]:
        try:
            sharded_matrix(shard, like)
        except ValueError as error:
            messages.append(str(error))
    return messages


def lost(mesh):
    """A NaN in one process's rows: the estimate in both, and whether both keep their block."""
    whole = torch.randn(4, 3)
    dist.broadcast(whole, 0)
    whole[3, 0] = torch.nan
    parameter = distribute_tensor(whole, mesh, [Shard(0)])
    matrix = sharded_matrix(parameter, parameter)
    start = start_block(matrix)
    seen = look(start, [matrix])
    block = kept_block(seen.block, start, seen.sigma)
    votes = torch.tensor(float(seen.sigma.isnan() and torch.equal(block, start)))
    dist.all_reduce(votes)
    return votes.item() == 2


TASK = make_task("text", 16, seed=0)


def make_model(shard, seed=0):
    """A GPT with an odd number of rows everywhere, sharded over the processes or whole."""
    config = GPTConfig(TASK.vocab + 1, context=17, d_model=21, heads=3, layers=2)
    model = GPT(config, torch.Generator().manual_seed(seed))
    if shard:
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
    return model


def backward(process_group, model, step, shard):
    """The loss of a batch, of which each process of a sharded model takes its part, and its gradients."""
    batch = TASK.batch(step, 8)
    inputs, targets = process_group.local_batch(batch) if shard else batch
    model.zero_grad()
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    return loss.detach()


def adamw2(model):
    return AdamW2(model, lr=1e-2, tau=TAU, betas=(0.9, 0.95), weight_decay=0.1)


def bound_around(kind, **options):
    """SpectralBound around another optimizer of a model."""
    return lambda model: SpectralBound(kind(model.parameters(), **options), TAU, model=model)


OPTIMIZERS = {
    "adamw2": (adamw2, 50),
    "adam": (bound_around(torch.optim.Adam, lr=5e-3), 6),
    "sgd": (bound_around(torch.optim.SGD, lr=0.5, momentum=0.9), 6),
}


def train(process_group, make, steps, shard):
    """Losses, sharded over the processes or whole, and how many matrices were cut."""
    model = make_model(shard)
    optimizer = make(model)
    losses, cuts = [], 0
    for step in range(steps):
        loss = backward(process_group, model, step, shard)
        optimizer.step()
        cuts += sum(int(report.cut) for report in optimizer.last_step.values())
        losses.append((process_group.all_reduce_mean(loss) if shard else loss).item())
    return losses, cuts


def clipped(process_group):
    """Norms that clipping finds, whole and sharded, and the largest difference of the clipped gradients."""
    norms, grads = [], []
    for shard in (False, True):
        model = make_model(shard)
        backward(process_group, model, 0, shard)
        norms.append(whole(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)).item())
        grads.append(torch.cat([whole(p.grad).flatten() for p in model.parameters()]))
    return *norms, (grads[0] - grads[1]).abs().max().item()


def kept(process_group, full):
    """A model and AdamW² put into others by torch's own checkpoint functions: do both go on alike?

    With `full` the state is gathered on its way, as it is for one process.
    """
    options = StateDictOptions(full_state_dict=full)
    first, second = make_model(True), make_model(True, seed=1)
    one, two = adamw2(first), adamw2(second)
    for step in range(2):
        backward(process_group, first, step, True)
        one.step()
    state, optimizer_state = get_state_dict(first, one, options=options)
    set_state_dict(
        second,
        two,
        model_state_dict=deepcopy(state),
        optim_state_dict=deepcopy(optimizer_state),
        options=options,
    )
    differing = [f"{n} in {len(one.state)}" for n in KNOWN if not alike(one, two, n)]
    for step in range(2, 3):
        for model, optimizer in ((first, one), (second, two)):
            backward(process_group, model, step, True)
            optimizer.step()
    pairs = zip(first.named_parameters(), second.parameters(), strict=True)
    return differing + [name for (name, a), b in pairs if not torch.equal(local(a), local(b))]


def alike(one, two, name):
    """Whether two optimizers keep the same under this name."""
    states = zip(one.state.values(), two.state.values(), strict=True)
    return all(torch.equal(s[name], t[name]) for s, t in states if name in s or name in t)


def fused(mesh):
    """The error for q, k and v one below the other, whose rows are spread."""
    weight = torch.nn.Parameter(distribute_tensor(torch.zeros(12, 4), mesh, [Shard(0)]))
    model = torch.nn.Sequential(torch.nn.MultiheadAttention(4, 1))
    model[0].in_proj_weight = weight
    try:
        SpectralBound(torch.optim.SGD([weight]), model=model)
    except ValueError as error:
        return str(error)


def main(results: Path) -> None:
    process_group = init_process_group()
    mesh = init_device_mesh("cpu", (2,))
    found = {
        "estimates": [estimate(shape, mesh) for shape in SHAPES],
        "bf16": estimate((33, 20), mesh, torch.bfloat16),
        "refused": refused(mesh),
        "lost": lost(mesh),
        "trained": {
            name: [train(process_group, make, steps, shard) for shard in (False, True)]
            for name, (make, steps) in OPTIMIZERS.items()
        },
        "clipped": clipped(process_group),
        "kept": {name: kept(process_group, name == "full") for name in ("sharded", "full")},
        "fused": fused(mesh),
    }
    if process_group.is_main:
        results.write_text(json.dumps(found))
    destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
