"""What is known of σ₁ between steps does not outlive the weights that it was known of."""

import copy

import pytest
import torch
from torch import nn

from course_lib.optim import AdamW2, SpectralBound

TAU = 0.05


def drawn(seed):
    return torch.randn(20, 12, generator=torch.Generator().manual_seed(seed))


def adamw2(parameters):
    return AdamW2(parameters, lr=1e-2, tau=TAU, weight_decay=0.0)


def around_adamw(parameters):
    return SpectralBound(torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0), TAU)


@pytest.fixture(params=[adamw2, around_adamw])
def trained(request):
    """An optimizer of two matrices after some steps, of which none was cut, and how to make another."""
    parameters = [nn.Parameter(drawn(seed)) for seed in (0, 1)]
    optimizer = request.param(parameters)
    for t in range(6):
        for p in parameters:
            p.grad = drawn(10 + t)
        optimizer.step()
    assert not any(report.cut for report in optimizer.last_step.values())
    return optimizer, request.param


def shrink(tensor):
    with torch.no_grad():
        return tensor.mul_(1e-2)


def share(step, before):
    """σ₁ of a step beside that of the matrix before it."""
    return (torch.linalg.matrix_norm(step, 2) / torch.linalg.matrix_norm(before, 2)).item()


def moved(optimizer, which=0):
    """σ₁ of the next step beside that of the matrix, for which the step asked for is far too long."""
    w = optimizer.param_groups[0]["params"][which]
    before = w.detach().clone()
    w.grad = drawn(99)
    optimizer.step()
    return share(w.detach() - before, before)


def within_tau():
    # The block goes on from the last step's vectors, and the gradient is drawn anew: as in test_adamw2.
    return pytest.approx(TAU, rel=0.1)


# --- the steps themselves -----------------------------------------------------------------------


def test_steps_that_shrink_a_matrix_are_counted():
    """Each is within τ of the first matrix, and the last ones are not of what is left of it."""
    direction = torch.zeros(20, 12)
    direction[0, 0] = 1.0
    w = nn.Parameter(direction.clone())
    optimizer = SpectralBound(torch.optim.SGD([w], lr=0.02), TAU)
    found = []
    for _ in range(60):
        before, w.grad = w.detach().clone(), direction.clone()
        optimizer.step()
        found.append(share(w.detach() - before, before))
    assert found[0] == pytest.approx(0.02, rel=1e-3)
    assert max(found) == pytest.approx(TAU, rel=1e-3)  # of one direction: nothing to estimate


@pytest.mark.parametrize("others", [0, 1])
def test_decay_that_shrinks_a_matrix_is_counted(others):
    """Also where another matrix beside it does not decay."""
    w, gradient = nn.Parameter(drawn(0)), drawn(1)
    still = [nn.Parameter(drawn(2)) for _ in range(others)]
    optimizer = AdamW2([w], lr=1e-2, tau=TAU, weight_decay=10.0)  # 10 % in each step
    for p in still:
        p.grad = torch.zeros(20, 12)
        optimizer.add_param_group({"params": [p], "weight_decay": 0.0})
    if others:  # the decay is that of `w`'s group
        optimizer.param_groups.reverse()
        optimizer._count()
    name = str(others)
    found = []
    for _ in range(40):
        before, w.grad = w.detach().clone(), gradient.clone()
        optimizer.step()
        kept = before * (1 - optimizer.last_step[name].lr * 10.0)
        found.append(share(w.detach() - kept, before))
    assert found[0] < TAU / 2
    assert max(found) == pytest.approx(TAU, rel=0.01)


# --- somebody else --------------------------------------------------------------------------------


def test_between_two_steps(trained):
    optimizer, _ = trained
    shrink(optimizer.param_groups[0]["params"][0])
    assert moved(optimizer) == within_tau()


def test_while_others_have_gradients_than_before(trained):
    optimizer, _ = trained
    w, other = optimizer.param_groups[0]["params"]
    shrink(w)
    other.grad = None
    assert moved(optimizer) == within_tau()


def test_when_a_group_is_added(trained):
    optimizer, _ = trained
    shrink(optimizer.param_groups[0]["params"][0])
    late = nn.Parameter(drawn(5))
    late.grad = drawn(6)
    optimizer.add_param_group({"params": [late]})
    assert moved(optimizer) == within_tau()


def test_while_the_bound_was_off(trained):
    optimizer, _ = trained
    (group,) = optimizer.param_groups
    group["tau"] = None
    optimizer.step()
    shrink(group["params"][0])
    group["tau"] = TAU
    assert moved(optimizer) == within_tau()


def test_in_a_copy(trained):
    optimizer, _ = trained
    twin = copy.deepcopy(optimizer)
    shrink(twin.param_groups[0]["params"][0])
    assert moved(twin) == within_tau()


def test_beside_a_state_that_was_saved_with_other_weights(trained):
    optimizer, make = trained
    w, other = (p.detach().clone() for p in optimizer.param_groups[0]["params"])
    second = make([nn.Parameter(shrink(w)), nn.Parameter(other)])
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert moved(second) == within_tau()
