"""Under torchrun: σ₁ of sharded matrices, and a GPT under fully_shard; writes what was found as JSON."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from course_lib.data import make_task
from course_lib.models import GPT, GPTConfig
from course_lib.optim import AdamW2
from course_lib.optim.sharded import sharded_matrix, sharded_power_iteration
from course_lib.optim.sigma import as_matrix, power_iteration, start_block
from course_lib.training.distributed import join, leave

SHAPES = [(64, 64), (65, 33), (33, 65), (1, 8), (8, 1), (1, 1), (6, 3, 2, 2)]
"""Odd numbers of rows, and a process without any."""
TAU = 0.2
STEPS = 50


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


def estimate(shape, mesh, dtype=torch.float32):
    """Estimates of a whole and of a sharded matrix, their blocks' difference, and the traffic."""
    whole = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    parameter = distribute_tensor(whole, mesh, [Shard(0)])
    matrix = as_matrix(whole.flatten(1))
    start = start_block(matrix)
    assert torch.equal(start, start_block(sharded_matrix(parameter, parameter)))
    with Traffic() as traffic:
        sigma, block = sharded_power_iteration(parameter, start, 3, parameter)
    again, _ = sharded_power_iteration(parameter.to_local().flatten(1), start, 3, parameter)
    expected, expected_block = power_iteration(matrix, start, 3)
    assert type(sigma) is torch.Tensor
    assert sigma.ndim == 0
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
        "vectors": min(start.shape),
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
    start = start_block(sharded_matrix(parameter, parameter))
    sigma, block = sharded_power_iteration(parameter, start, 1, parameter)
    votes = torch.tensor(float(sigma.isnan() and torch.equal(block, start)))
    dist.all_reduce(votes)
    return votes.item() == 2


def train(world, shard):
    """Losses of 50 steps, sharded over the world or whole, and how many steps were cut."""
    task = make_task("text", 16, seed=0)
    config = GPTConfig(task.vocab + 1, context=16, d_model=21, heads=3, layers=2)  # odd rows everywhere
    model = GPT(config, torch.Generator().manual_seed(0))
    if shard:
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
    optimizer = AdamW2(model, lr=1e-2, tau=TAU, betas=(0.9, 0.95), weight_decay=0.1)
    losses, cuts = [], 0
    for step in range(STEPS):
        batch = task.batch(step, 8)
        inputs, targets = world.part(batch) if shard else batch
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cuts += sum(int(report.bound) for report in optimizer.last_step.values())
        losses.append((world.mean(loss.detach()) if shard else loss).item())
    return losses, cuts


def main(results: Path) -> None:
    world = join()
    mesh = init_device_mesh("cpu", (2,))
    found = {
        "estimates": [estimate(shape, mesh) for shape in SHAPES],
        "bf16": estimate((33, 20), mesh, torch.bfloat16),
        "refused": refused(mesh),
        "lost": lost(mesh),
        "whole": train(world, shard=False),
        "sharded": train(world, shard=True),
    }
    if world.first:
        results.write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
