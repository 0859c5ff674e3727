"""The path of accelerators, where no decision is made on the host, has the numbers of an SVD.

Run on the CPU, by chunks that take themselves to be elsewhere: on `meta`, where the other tests run that
path, there are no numbers, and CUDA is not everywhere.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from course_lib import Run, preset
from course_lib.optim import AdamW2, SpectralBound, limit
from course_lib.optim.sigma import COLD_ITERATIONS, iterate

TAU = 0.05


def matrix(seed):
    return torch.randn(160, 120, generator=torch.Generator().manual_seed(seed))


def adamw2(w):
    return AdamW2([w], lr=1.0, tau=TAU, weight_decay=0.0)


def around_sgd(w):
    return SpectralBound(torch.optim.SGD([w], lr=1.0), TAU)


def moved(optimizer, w, gradient):
    """σ₁ of a step beside that of the matrix."""
    before, w.grad = w.detach().double(), gradient
    optimizer.step()
    step = torch.linalg.matrix_norm(w.detach().double() - before, 2)
    return (step / torch.linalg.matrix_norm(before, 2)).item()


def elsewhere(optimizer, *, cold=False):
    (chunk,) = optimizer._plan.chunks
    chunk.device = SimpleNamespace(type="elsewhere")
    chunk._cold = cold
    if cold:
        chunk._block.copy_(torch.eye(8, 120))


@pytest.mark.parametrize("make", [adamw2, around_sgd])
def test_steps_like_the_last_ones_are_cut_to_tau(make):
    w = nn.Parameter(matrix(0))
    optimizer, gradient = make(w), matrix(1)
    moved(optimizer, w, gradient)
    elsewhere(optimizer)
    for seed in range(2, 8):
        # The noise of a batch is little beside what the vectors know from the last step.
        assert moved(optimizer, w, gradient + 0.1 * matrix(seed)) == pytest.approx(TAU, rel=0.02)


@pytest.mark.parametrize("lr", [1.0, 1e-4])  # one that is cut and one that is not
def test_decay_has_the_learning_rate_that_was_used(lr):
    w, decay = nn.Parameter(matrix(0)), 0.1
    optimizer = AdamW2([w], lr=lr, tau=TAU, weight_decay=decay)
    moved(optimizer, w, matrix(1))
    elsewhere(optimizer)
    before = w.detach().double()
    moved(optimizer, w, matrix(1))
    used, state = optimizer.last_step["0"].lr.item(), optimizer.state[w]
    update = (state["exp_avg"] / (1 - 0.9**2)) / ((state["exp_avg_sq"] / (1 - 0.999**2)).sqrt() + 1e-8)
    assert (used < 0.9 * lr) == (lr == 1.0)
    expected = (1 - used * decay) * before - used * update.double()
    torch.testing.assert_close(w.detach().double(), expected, rtol=0, atol=1e-6)


def test_as_many_products_as_a_start_needs_and_then_as_few_as_the_next_steps_need(monkeypatch):
    w = nn.Parameter(torch.empty(20, 12, device="meta"))
    optimizer, products = AdamW2([w]), []

    def counted(block, stacks):
        products.append(len(block))
        return iterate(block, stacks)

    monkeypatch.setattr(limit, "iterate", counted)
    both, step = 2, 1  # matrices: W and its step, then the step alone, again and again
    for cold in (COLD_ITERATIONS - 1, 0, 0):
        w.grad = torch.empty_like(w)
        products.clear()
        optimizer.step()
        assert products == [both] * cold + [both] + [step] * limit.UNSEEN_LOOKS


@pytest.mark.parametrize("make", [adamw2, around_sgd])
def test_from_a_cold_start_a_step_is_cut_to_tau(make):
    w = nn.Parameter(matrix(0))
    optimizer = make(w)
    moved(optimizer, w, matrix(1))
    elsewhere(optimizer, cold=True)
    assert moved(optimizer, w, matrix(9)) == pytest.approx(TAU, rel=0.01)


def test_a_step_within_tau_is_left_whole():
    w = nn.Parameter(matrix(0))
    optimizer, gradient = around_sgd(w), matrix(1)
    moved(optimizer, w, gradient)
    elsewhere(optimizer)
    before = w.detach().clone()
    moved(optimizer, w, 0.01 * gradient)
    assert not optimizer.last_step["0"].cut
    torch.testing.assert_close(w.detach(), before - 0.01 * gradient, rtol=1e-6, atol=1e-6)


def test_a_step_that_is_not_finite_passes_as_it_is():
    w = nn.Parameter(matrix(0))
    optimizer, gradient = around_sgd(w), matrix(1)
    moved(optimizer, w, gradient)
    elsewhere(optimizer)
    w.grad = gradient.clone()
    w.grad[2, 3] = torch.inf
    expected = w.detach() - w.grad
    optimizer.step()
    assert torch.equal(w.detach(), expected)
    assert expected[2, 3] == -torch.inf


def test_a_step_of_nothing_is_one():
    w = nn.Parameter(matrix(0))
    optimizer = around_sgd(w)
    moved(optimizer, w, matrix(1))
    elsewhere(optimizer)
    assert moved(optimizer, w, torch.zeros(160, 120)) == 0
    assert optimizer.last_step["0"].rho_requested == 0
    assert moved(optimizer, w, matrix(2)) == pytest.approx(TAU, rel=0.1)  # from the vectors of two steps ago


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_steps_whose_squares_leave_the_range_of_fp32(size):
    w = nn.Parameter(matrix(0))
    optimizer, gradient = around_sgd(w), matrix(1)
    moved(optimizer, w, gradient)
    elsewhere(optimizer)
    assert moved(optimizer, w, size * gradient) <= 1.01 * TAU
    exact = size * torch.linalg.matrix_norm(gradient, 2) / torch.linalg.matrix_norm(w.detach(), 2)
    if size < 1:
        assert optimizer.last_step["0"].rho_requested.item() == pytest.approx(exact.item(), rel=0.01)
    else:
        assert optimizer.last_step["0"].cut


def test_steps_of_a_real_run_that_turn_fast_keep_to_tau(monkeypatch):
    monkeypatch.setattr(limit.Chunk, "_host", property(lambda _: False))
    run = Run(preset("copy", optimizer="adamw2", seed=1, probe_every=0))
    tau = run.config.tau
    for _ in range(4):  # the second once exceeded τ by 4.8 %: ΔW was looked at twice, not three times
        before = {name: w.detach().double() for name, w in run.matrices.items()}
        run.step()
        for name, report in run.optimizer.last_step.items():
            kept = 1 - report.lr.item() * run.config.weight_decay
            moved = run.matrices[name].detach().double() - kept * before[name]
            share = torch.linalg.matrix_norm(moved, 2) / torch.linalg.matrix_norm(before[name], 2)
            assert share <= 1.01 * tau, name
