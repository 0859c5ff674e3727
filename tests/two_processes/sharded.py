"""Under torchrun: σ₁ of sharded matrices, and a GPT under fully_shard; writes what was found as JSON."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from course_lib.data import make_task
from course_lib.models import GPT, GPTConfig
from course_lib.optim import bounded_parameters
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


class Bounded(torch.optim.Optimizer):
    """The rule of AdamW² in its fewest lines; on DTensors it works on the local rows, but for σ₁."""

    def __init__(self, model):
        self.bounded = set(bounded_parameters(model).values())
        self.cuts = 0
        super().__init__(model.parameters(), {"lr": 1e-2})

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            weight, grad = local(p), local(p.grad)
            state = self.state[p]
            if not state:
                state |= {"step": 0, "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
            state["step"] += 1
            t = state["step"]
            state["mean"].lerp_(grad, 0.1)
            state["square"].lerp_(grad.square(), 0.05)
            mean, square = state["mean"] / (1 - 0.9**t), state["square"] / (1 - 0.95**t)
            update = mean / (square.sqrt() + 1e-8)
            lr = self.param_groups[0]["lr"]
            if p in self.bounded:
                ratio = self.sigma(p, update, "update") / self.sigma(p, weight, "weight")
                self.cuts += int(lr * ratio > TAU)
                lr = min(lr, (TAU / ratio).item())
            weight.sub_(lr * (update + 0.1 * weight))

    def sigma(self, p, values, name):
        matrix = sharded_matrix(values, p) if isinstance(p, DTensor) else as_matrix(values)
        block = self.state[p].setdefault(name, start_block(matrix))
        sigma, self.state[p][name] = power_iteration(matrix, block, 3)
        return sigma


def local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def train(world, shard):
    """Losses of 50 steps, sharded over the world or whole, and how many steps were cut."""
    task = make_task("text", 16, seed=0)
    config = GPTConfig(task.vocab + 1, context=16, d_model=21, heads=3, layers=2)  # odd rows everywhere
    model = GPT(config, torch.Generator().manual_seed(0))
    if shard:
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
    optimizer = Bounded(model)
    losses = []
    for step in range(STEPS):
        batch = task.batch(step, 8)
        inputs, targets = world.part(batch) if shard else batch
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((world.mean(loss.detach()) if shard else loss).item())
    return losses, optimizer.cuts


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
