"""SpectralBound: no optimizer's step moves a matrix by more than τ of its σ₁, and all else stays its own."""

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib import GPT, AdamW2, GPTConfig
from course_lib.optim import SIGMA_FLOOR, BoundedMatrix, SpectralBound, bounded_parameters

WARM = 1.1
"""Gradients drawn anew in every step are the worst case for vectors kept from the last one: the estimate of
σ₁(D) is then short by up to 9 % (measured on 128² to 512 × 128), and the step too long by that."""
STEADY = 1.02
"""The most by which issue and docstring let ρ exceed τ where steps resemble each other."""


class HandMade(torch.optim.Optimizer):
    """A third-party optimizer in the manner of Lion: sign of a momentum, and decay inside it."""

    def __init__(self, params, lr=0.1, beta=0.9, decay=0.1):
        super().__init__(params, {"lr": lr, "beta": beta, "decay": decay})

    def step(self, closure=None):  # no no_grad around the closure, which torch's own have
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if len(state) == 0:  # so whatever else were kept here would break it
                        state["momentum"] = torch.zeros_like(p)
                    state["momentum"].mul_(group["beta"]).add_(p.grad + group["decay"] * p)
                    p.sub_(group["lr"] * state["momentum"].sign())
        return loss


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=5.0, momentum=0.9, nesterov=True, weight_decay=0.1),
    "SGD plain": lambda p: torch.optim.SGD(p, lr=5.0),
    "Adam": lambda p: torch.optim.Adam(p, lr=1.0, weight_decay=0.1, amsgrad=True),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=1.0, weight_decay=0.5, fused=True),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, lr=1.0, foreach=True),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=1.0),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1.0),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=1.0),
    "Muon": lambda p: torch.optim.Muon(p, lr=5.0, weight_decay=0.1),
    "hand-made": lambda p: HandMade(p, lr=1.0),
}
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def matrix(m, n, seed=0, scale=1.0, dtype=torch.float32):
    values = scale * torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
    return nn.Parameter(values.to(dtype))


def set_gradients(parameters, seed, scale=1.0):
    g = torch.Generator().manual_seed(1000 + seed)  # else they would be the weights of that seed
    for p in parameters:
        p.grad = (scale * torch.randn(p.shape, generator=g)).to(p.dtype)


def sigma(tensor):
    """Exact, in double precision."""
    return torch.linalg.svdvals(tensor.detach().double().flatten(1))[0].item()


def moved(before, after):
    return sigma(after.detach().double() - before.double())


def allowed(before, tau, slack=WARM):
    """τ σ₁(W), the estimate's slack, and the rounding of W to its precision.

    Rounding changes each entry by u|w| at most: by Frobenius, u √rank σ₁ in all.
    """
    size = sigma(before)
    unit = torch.finfo(before.dtype).eps / 2
    rounding = unit * math.sqrt(min(before.shape)) * (size + tau * max(size, SIGMA_FLOOR))
    return slack * tau * max(size, SIGMA_FLOOR) + 2 * rounding


def train(optimizer, parameters, steps, tau, slack=WARM, seed=0):
    """Steps with gradients of the seed alone, each one held to the guarantee; returns how many were cut."""
    cut = 0
    for t in range(steps):
        before = [p.detach().clone() for p in parameters]
        set_gradients(parameters, seed + t)
        optimizer.step()
        for old, p in zip(before, parameters, strict=True):
            assert moved(old, p) <= allowed(old, tau, slack)
        cut += sum(int(report.cut.sum()) for report in optimizer.last_step.values())
    return cut


# --- the guarantee --------------------------------------------------------------------------


@each_optimizer
@pytest.mark.parametrize(("tau", "least"), [(0.01, 50), (0.3, 5)])
def test_the_guarantee_around_any_optimizer(make, tau, least):
    parameters = [matrix(12, 7), matrix(30, 40, seed=1), matrix(9, 9, seed=2)]
    optimizer = SpectralBound(make(parameters), tau)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert train(optimizer, parameters, 20, tau) > least  # of 60


@each_optimizer
def test_a_bound_that_never_bites_changes_nothing(make):
    ours, theirs = [matrix(12, 7), matrix(5, 8)], [matrix(12, 7), matrix(5, 8)]
    bounded, bare = SpectralBound(make(ours), tau=1e9), make(theirs)
    for t in range(10):
        set_gradients(ours, t)
        set_gradients(theirs, t)
        bounded.step()
        bare.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not any(report.cut for report in bounded.last_step.values())


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1e-8, 1e-3, 1.0, 1e3, 1e8]),
    st.sampled_from([1e-8, 1.0, 1e8, 1e18, 1e30]),
    st.floats(0.001, 1.0),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    st.integers(0, 99),
)
def test_the_guarantee_over_shapes_ranks_scales_and_precisions(m, n, rank, scale, step, tau, dtype, seed):
    w = matrix(m, n, seed, scale, dtype)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau)
    g = torch.Generator().manual_seed(seed + 1)
    for _ in range(4):
        before = w.detach().clone()
        low_rank = torch.randn(m, rank, generator=g) @ torch.randn(rank, n, generator=g)
        w.grad = (step * low_rank).to(dtype)
        optimizer.step()
        assert w.isfinite().all()
        assert moved(before, w) <= allowed(before, tau)
        # The cut is no deeper than it has to be, either: what was asked for, or what is allowed.
        asked = before.double() - w.grad.double()
        enough = min(moved(before, asked), tau * max(sigma(before), SIGMA_FLOOR))
        rounding = allowed(before, tau, slack=0) + torch.finfo(dtype).eps * sigma(w.grad)
        assert moved(before, w) >= 0.97 * enough - rounding


@given(st.integers(2, 40), st.integers(0, 99), st.floats(0.01, 0.5))
def test_equal_singular_values(n, seed, tau):
    g = torch.Generator().manual_seed(seed)
    w = nn.Parameter(torch.linalg.qr(torch.randn(n, n, generator=g)).Q)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau)
    for _ in range(3):
        before = w.detach().clone()
        w.grad = torch.linalg.qr(torch.randn(n, n, generator=g)).Q
        optimizer.step()
        most = min(1.0, tau * sigma(before))  # the step that was asked for has σ₁ = 1
        # All of D's directions are equal, so its estimate is exact; W's may be short, the conservative side.
        assert 0.95 * most <= moved(before, w) <= 1.001 * most


def test_steps_that_resemble_each_other_keep_within_two_percent():
    """A batch's noise on a slowly turning gradient, as in training."""
    w = matrix(64, 48, scale=0.02)
    optimizer = SpectralBound(torch.optim.Adam([w], lr=1e-2), tau=0.02)
    g = torch.Generator().manual_seed(1)
    signal, excess = torch.randn(64, 48, generator=g), []
    for _ in range(100):
        signal = 0.98 * signal + 0.2 * torch.randn(64, 48, generator=g)
        before = w.detach().clone()
        w.grad = signal + 0.3 * torch.randn(64, 48, generator=g)
        optimizer.step()
        excess.append(moved(before, w) / (0.02 * sigma(before)))
    assert max(excess[2:]) <= STEADY  # Adam's first two updates are signs: hardly like the rest
    assert max(excess) <= WARM


@pytest.mark.parametrize("size", [10.0, 0.5])
def test_a_step_in_directions_that_the_last_ones_never_had_is_seen(size):
    """The vectors kept from steps on the first columns know nothing of the last ones."""
    w = nn.Parameter(torch.eye(40, 30))
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05)
    for t in range(30):
        before = w.detach().clone()
        w.grad = torch.zeros(40, 30)
        w.grad[29 - t % 30, (11 * t) % 30] = size
        optimizer.step()
        assert moved(before, w) <= allowed(before, 0.05, STEADY)


def test_a_step_just_beyond_tau_is_seen_in_directions_drawn_anew():
    """What W's vectors see says nothing of how much of the step has been seen."""
    w = nn.Parameter(torch.eye(64, 48))
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05)
    for t in range(5):
        before, step = w.detach().clone(), matrix(64, 48, seed=t).detach()
        w.grad = 1.05 * 0.05 * sigma(w) / sigma(step) * step
        optimizer.step()
        assert moved(before, w) <= 1.015 * 0.05 * sigma(before)


def test_what_is_known_of_a_matrix_does_not_depend_on_how_long_those_beside_it_take():
    """One, of low rank, is decided at the first look; the other, new in every direction, is looked at on."""
    g = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, 4, generator=g)).Q for n in (64, 48))
    together, alone = ([matrix(64, 48), matrix(64, 48, seed=1)] for _ in range(2))
    both = SpectralBound(torch.optim.SGD(together, lr=1.0), tau=0.05)
    apart = [SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05) for w in alone]
    for t in range(5):
        low_rank = 0.045 * sigma(together[0]) * (u * torch.tensor([1.0, 0.9, 0.8, 0.7])) @ v.T
        for (a, b), step in zip(
            zip(together, alone, strict=True), (low_rank, matrix(64, 48, seed=9 + t).detach()), strict=True
        ):
            a.grad, b.grad = step.clone(), step.clone()
        for optimizer in (both, *apart):
            optimizer.step()
        assert [bool(report.cut) for report in both.last_step.values()] == [False, True]
    for a, b, optimizer in zip(together, alone, apart, strict=True):
        for name, value in both._known[a].items():
            # Up to rounding: products of stacks of other sizes are added up in another order.
            torch.testing.assert_close(value, optimizer._known[b][name], rtol=1e-3, atol=1e-3)


def test_a_step_whose_squares_overflow_beside_a_large_matrix():
    """Divided by its largest entry, the step is nothing beside the matrix; it is 1e22 times as large."""
    w = matrix(12, 7, scale=1e8)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05)
    assert train(optimizer, [w], 2, 0.05) == 0
    before = w.detach().clone()
    set_gradients([w], 9, scale=1e30)
    optimizer.step()
    assert moved(before, w) == pytest.approx(0.05 * sigma(before), rel=0.02)


def test_the_whole_step_is_inside_the_bound_decay_included():
    """Unlike in AdamW2, where the bound is on the update and decay comes on top."""
    w = matrix(8, 6)
    before = w.detach().clone()
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0, weight_decay=0.5), tau=0.05)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(w.detach(), before * (1 - 0.05), rtol=1e-3, atol=0)
    assert optimizer.last_step["0"].rho_requested.item() == pytest.approx(0.5, rel=1e-3)


def test_momentum_is_that_of_the_whole_steps():
    ours, theirs = matrix(8, 6), matrix(8, 6)
    bounded = SpectralBound(torch.optim.SGD([ours], lr=1.0, momentum=0.9), tau=0.01)
    bare = torch.optim.SGD([theirs], lr=1.0, momentum=0.9)
    for t in range(5):
        set_gradients([ours, theirs], t)
        theirs.grad = ours.grad.clone()
        bounded.step()
        bare.step()
    assert not torch.equal(ours, theirs)
    assert torch.equal(bounded.state[ours]["momentum_buffer"], bare.state[theirs]["momentum_buffer"])


def test_the_report_tells_rho_factor_and_whether_the_bound_bit():
    w, small = matrix(8, 6), matrix(8, 6, seed=1)
    before = w.detach().clone()
    optimizer = SpectralBound(torch.optim.SGD([("w", w), ("small", small)], lr=1.0), tau=0.05)
    set_gradients([w], 1)
    small.grad = 1e-6 * w.grad
    optimizer.step()
    report = optimizer.last_step["w"]
    rho = sigma(w.grad) / sigma(before)
    assert report.rho_requested.item() == pytest.approx(rho, rel=1e-2)
    assert report.factor.item() == pytest.approx(0.05 / report.rho_requested.item(), rel=1e-6)
    assert report.cut
    torch.testing.assert_close(w.detach(), before - report.factor * w.grad, rtol=1e-5, atol=1e-6)
    assert not optimizer.last_step["small"].cut
    assert optimizer.last_step["small"].factor == 1


def test_a_matrix_of_zeros_does_not_freeze():
    w = nn.Parameter(torch.zeros(6, 4))
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.5)
    set_gradients([w], 0)
    optimizer.step()
    assert sigma(w) == pytest.approx(0.5 * SIGMA_FLOOR, rel=1e-2)


# --- which matrices -------------------------------------------------------------------------


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 5)

    def forward(self, ids):
        return self.head(self.encoder(self.embedding(ids)))


def tiny_step(model, optimizer):
    model(torch.arange(5)[None]).logsumexp(-1).sum().backward()
    optimizer.step()


def test_a_model_is_bounded_inside_its_blocks_and_fused_projections_part_by_part():
    model = Tiny()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = SpectralBound(torch.optim.Adam(model.parameters(), lr=1.0), 0.05, model=model)
    tiny_step(model, optimizer)
    bounded = bounded_parameters(model)
    assert set(optimizer.last_step) == set(bounded)
    assert optimizer.last_step["encoder.layers.0.self_attn.in_proj_weight"].factor.shape == (3,)
    assert optimizer.last_step["encoder.layers.0.linear1.weight"].factor.shape == ()
    for name, bound in bounded.items():
        olds, news = bound.matrices(before[name]), bound.matrices(bound.parameter)
        for old, new in zip(olds, news, strict=True):
            assert moved(old, new) <= allowed(old, 0.05)
    assert moved(before["head.weight"], model.head.weight) > 1  # lr 1, unbounded


def test_parts_of_a_transposed_fused_weight_have_bounds_of_their_own():
    """As in GPT-2's c_attn: (in, 3·out)."""
    w = matrix(6, 18)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05)
    optimizer._named = {w: ("w", BoundedMatrix(w, (1, 3)))}
    before = w.detach().clone()
    w.grad = torch.zeros(6, 18)
    w.grad[:, 6:12] = 1.0
    optimizer.step()
    q, k, v = w.detach().chunk(3, 1)
    assert optimizer.last_step["w"].cut.tolist() == [False, True, False]
    assert torch.equal(q, before[:, :6])
    assert torch.equal(v, before[:, 12:])
    assert moved(before[:, 6:12], k) == pytest.approx(0.05 * sigma(before[:, 6:12]), rel=1e-2)


def test_convolutions_count_as_out_by_rest_in_any_memory_format():
    conv = nn.Conv2d(3, 6, 3).to(memory_format=torch.channels_last)
    w = conv.weight
    optimizer = SpectralBound(torch.optim.SGD([w], lr=10.0), tau=0.05)
    for t in range(3):
        before = w.detach().clone()
        set_gradients([w], t)
        optimizer.step()
        assert moved(before.flatten(1), w.flatten(1)) == pytest.approx(0.05 * sigma(before), rel=0.02)


def test_names_choose_what_is_bounded():
    model = Tiny()
    optimizer = SpectralBound(torch.optim.SGD(model.parameters(), lr=1.0), model=model, names=["head.weight"])
    tiny_step(model, optimizer)
    assert set(optimizer.last_step) == {"head.weight"}


def test_without_a_model_every_matrix_that_the_optimizer_holds():
    model = Tiny()
    optimizer = SpectralBound(torch.optim.SGD(model.named_parameters(), lr=1.0))
    tiny_step(model, optimizer)
    assert set(optimizer.last_step) == {n for n, p in model.named_parameters() if p.ndim >= 2}


def test_vectors_and_what_has_no_gradient_are_left_alone():
    w, idle, v = matrix(4, 4), matrix(4, 4), nn.Parameter(torch.ones(4))
    optimizer = SpectralBound(torch.optim.SGD([w, idle, v], lr=1.0, weight_decay=0.1), tau=0.01)
    before = idle.detach().clone()
    set_gradients([w, v], 0)
    optimizer.step()
    assert set(optimizer.last_step) == {"0"}
    assert torch.equal(idle, before)
    torch.testing.assert_close(v.detach(), 0.9 - v.grad)


def test_groups_have_their_own_tau_or_none():
    a, b, c = matrix(4, 4), matrix(4, 4), matrix(4, 4)
    groups = [{"params": [a], "tau": 0.01}, {"params": [b]}, {"params": [c], "tau": None}]
    optimizer = SpectralBound(torch.optim.SGD(groups, lr=1.0), tau=0.1)
    set_gradients([a, b, c], 1)
    optimizer.step()
    cut = {k: (r.factor * r.rho_requested).item() for k, r in optimizer.last_step.items()}
    assert cut == pytest.approx({"0": 0.01, "1": 0.1}, rel=1e-5)
    optimizer.param_groups[2]["tau"] = 0.2
    optimizer.step()
    assert set(optimizer.last_step) == {"0", "1", "2"}


def test_a_group_that_is_added_is_bounded_too():
    w, later = matrix(4, 4), matrix(4, 4)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.1)
    optimizer.add_param_group({"params": [later], "lr": 2.0})
    assert optimizer.param_groups is optimizer.optimizer.param_groups
    assert optimizer.param_groups[1]["tau"] == 0.1
    assert train(optimizer, [w, later], 3, 0.1) > 3


# --- an optimizer like any other ------------------------------------------------------------


def test_schedulers_drive_the_inner_optimizer():
    w = matrix(4, 4)
    inner = torch.optim.SGD([w], lr=1.0)
    optimizer = SpectralBound(inner)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
        ],
        milestones=[2],
    )
    for t in range(3):
        set_gradients([w], t)
        optimizer.step()
        scheduler.step()
    assert inner.param_groups[0]["lr"] == pytest.approx(scheduler.get_last_lr()[0])
    assert 0.9 < inner.param_groups[0]["lr"] < 1


@pytest.mark.parametrize("name", ["SGD", "hand-made"])
def test_closures_are_evaluated_with_gradients_and_their_loss_returned(name):
    w = matrix(6, 4)
    optimizer = SpectralBound(OPTIMIZERS[name]([w]), tau=0.05)
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    for _ in range(5):
        before = w.detach().clone()
        losses.append(optimizer.step(closure).item())
        assert moved(before, w) <= allowed(before, 0.05)
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_lbfgs_moves_many_times_in_a_step_and_is_bounded_over_the_whole():
    w = matrix(6, 4)
    optimizer = SpectralBound(torch.optim.LBFGS([w], lr=1.0, max_iter=5), tau=0.05)

    def closure():
        optimizer.zero_grad()
        loss = ((w - 3) ** 2).sum()
        loss.backward()
        return loss

    cuts = []
    for _ in range(5):
        before = w.detach().clone()
        optimizer.step(closure)
        assert moved(before, w) <= allowed(before, 0.05)
        cuts.append(bool(optimizer.last_step["0"].cut))
    assert cuts[0]  # later it may stand still: what it remembers are steps that were not made in full


def test_gradients_accumulate_and_are_zeroed():
    w = matrix(4, 4)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=0.1))
    for _ in range(2):
        (w.sum()).backward()
    torch.testing.assert_close(w.grad, torch.full((4, 4), 2.0))
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(w.grad, torch.zeros(4, 4))
    optimizer.zero_grad()
    assert w.grad is None


@each_optimizer
def test_state_dict_round_trip_goes_on_bit_for_bit(make):
    w, v = matrix(30, 20), matrix(30, 20)
    first, second = SpectralBound(make([w])), SpectralBound(make([v]))
    train(first, [w], 5, 0.05)
    with torch.no_grad():
        v.copy_(w)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    train(first, [w], 5, 0.05, seed=9)
    train(second, [v], 5, 0.05, seed=9)
    assert torch.equal(w, v)


def test_vectors_are_saved_so_that_estimates_go_on_and_not_shared():
    w, v = matrix(30, 20), matrix(30, 20)
    first, second = SpectralBound(torch.optim.SGD([w], lr=1.0)), SpectralBound(torch.optim.SGD([v], lr=1.0))
    train(first, [w], 3, 0.05)
    saved = first.state_dict()
    train(second, [v], 1, 0.05)
    second.load_state_dict(saved)
    assert second.last_step == {}  # of a step made before
    second.load_state_dict(saved)  # which has not lost anything to the first time
    kept, loaded = first._known[w]["block_update"], second._known[v]["block_update"]
    assert torch.equal(kept, loaded)
    assert kept.data_ptr() != loaded.data_ptr()


def test_bf16_parameters_keep_their_vectors_in_fp32():
    w, v = matrix(30, 20, dtype=torch.bfloat16), matrix(30, 20, dtype=torch.bfloat16)
    first, second = SpectralBound(torch.optim.Adam([w], lr=1.0)), SpectralBound(torch.optim.Adam([v], lr=1.0))
    train(first, [w], 3, 0.05)
    second.load_state_dict(first.state_dict())
    assert second._known[v]["block_weight"].dtype == torch.float32
    assert torch.equal(first._known[w]["block_weight"], second._known[v]["block_weight"])
    assert first.last_step["0"].rho_requested.dtype == torch.float32


def test_a_bf16_step_is_cut_in_fp32_and_rounded_once():
    w, v = matrix(30, 20, dtype=torch.bfloat16), matrix(30, 20, dtype=torch.bfloat16)
    before = w.detach().float()
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05)
    set_gradients([w, v], 0)
    v.grad = w.grad.clone()
    optimizer.step()
    torch.optim.SGD([v], lr=1.0).step()
    kept = before + optimizer.last_step["0"].factor * (v.detach().float() - before)
    assert torch.equal(w.detach(), kept.bfloat16())


@each_optimizer
def test_states_pass_between_the_bound_and_the_bare_optimizer(make):
    w, v, u = (matrix(30, 20) for _ in range(3))
    bare, bounded, bare_again = make([w]), SpectralBound(make([v]), tau=0.02), make([u])
    for t in range(3):
        set_gradients([w], t)
        bare.step()
    bounded.load_state_dict(bare.state_dict())
    assert bounded.param_groups[0]["tau"] == 0.02
    train(bounded, [v], 3, 0.02)
    bare_again.load_state_dict(bounded.state_dict())
    set_gradients([u], 0)
    bare_again.step()


@each_optimizer
def test_a_deep_copy_goes_on_alone_and_alike(make):
    w = matrix(30, 20)
    optimizer = SpectralBound(make([w]), tau=0.02)
    torch.optim.lr_scheduler.ConstantLR(optimizer)  # puts a method of its own on the optimizer
    train(optimizer, [w], 3, 0.02)
    other = copy.deepcopy(optimizer)
    (v,) = other.param_groups[0]["params"]
    assert v is not w
    assert other.param_groups is other.optimizer.param_groups
    train(optimizer, [w], 3, 0.02, seed=9)
    train(other, [v], 3, 0.02, seed=9)
    assert torch.equal(w, v)


def test_a_model_and_its_optimizer_are_copied_together():
    model = Tiny()
    optimizer = SpectralBound(torch.optim.Adam(model.parameters(), lr=1.0), model=model)
    tiny_step(model, optimizer)
    twin, other = copy.deepcopy((model, optimizer))
    tiny_step(twin, other)
    assert set(other.last_step) == set(bounded_parameters(twin))
    assert not torch.equal(twin.encoder.layers[0].linear1.weight, model.encoder.layers[0].linear1.weight)


@pytest.mark.parametrize("fused", [False, True])
def test_a_grad_scaler_unscales_and_skips(fused):
    w, v = matrix(6, 4), matrix(6, 4)
    scaled = SpectralBound(torch.optim.AdamW([w], lr=1.0, fused=fused), tau=0.05)
    plain = SpectralBound(torch.optim.AdamW([v], lr=1.0), tau=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for t in range(4):
        set_gradients([v], t)
        w.grad = v.grad * scaler.get_scale()
        if t == 2:
            w.grad[0, 0] = math.inf
            before = w.detach().clone()
            scaler.scale(torch.ones(()))
            scaler.step(scaled)
            scaler.update()
            assert torch.equal(w, before)
            continue
        scaler.scale(torch.ones(()))  # as scaling a loss does, it makes the scale
        scaler.step(scaled)
        scaler.update()
        plain.step()
    torch.testing.assert_close(w, v, rtol=1e-4, atol=1e-5)
    assert scaler.get_scale() == 512


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_passes_and_leaves_the_estimates_sound(bad):
    ours, theirs, good = matrix(20, 12), matrix(20, 12), matrix(20, 12)
    optimizer = SpectralBound(torch.optim.SGD([ours, good], lr=1.0), tau=0.05)
    train(optimizer, [ours, good], 3, 0.05)
    saved = ours.detach().clone()
    with torch.no_grad():
        theirs.copy_(ours)
    ours.grad = torch.ones_like(ours)
    ours.grad[2, 3] = bad
    theirs.grad = ours.grad.clone()
    optimizer.step()
    torch.optim.SGD([theirs], lr=1.0).step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert good.isfinite().all()
    assert all(value.isfinite().all() for value in optimizer._known[ours].values())
    with torch.no_grad():
        ours.copy_(saved)
    assert train(optimizer, [ours, good], 3, 0.05, seed=9) == 6


def test_the_vectors_go_on_from_the_last_step():
    """They see of the last step, without another product, what there is to see."""
    w, gradient = matrix(64, 48), matrix(64, 48, seed=1).detach()
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05)
    for t in range(10):
        w.grad = gradient + 0.1 * matrix(64, 48, seed=2 + t).detach()
        optimizer.step()
    (vectors,) = optimizer._known[w]["block_update"]
    assert sigma(w.grad @ vectors.T) >= 0.99 * sigma(w.grad)


def test_what_is_set_is_set_in_the_inner_optimizer():
    optimizer = SpectralBound(sgd(matrix(2, 2)))
    for name in ("state", "defaults", "param_groups"):
        value = copy.copy(getattr(optimizer, name))
        setattr(optimizer, name, value)
        assert getattr(optimizer.optimizer, name) is value


def test_hooks_run_around_the_step_and_the_state():
    w = matrix(4, 4)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0))
    called = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: called.append(("pre", o)))
    optimizer.register_step_post_hook(lambda o, args, kwargs: called.append(("post", o)))
    optimizer.register_state_dict_pre_hook(lambda o: called.append(("saving", o)))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "mark": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: called.append((state["mark"], o)))
    optimizer.register_load_state_dict_post_hook(lambda o: called.append(("loaded", o)))
    set_gradients([w], 0)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert [what for what, _ in called] == ["pre", "post", "saving", 1, "loaded"]
    assert all(o is optimizer for _, o in called)
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {**state, "param_groups": changed})
    changed = [{**optimizer.state_dict()["param_groups"][0], "lr": 7.0}]
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 7.0


def test_a_step_runs_on_meta_so_nothing_waits_for_the_host():
    with torch.device("meta"):
        model = Tiny()
        ids = torch.zeros(1, 5, dtype=torch.long)
    optimizer = SpectralBound(torch.optim.AdamW(model.parameters()), model=model)
    for _ in range(2):  # cold, then warm
        model(ids).sum().backward()
        optimizer.step()
    assert optimizer.last_step["encoder.layers.0.linear1.weight"].factor.is_meta


def test_what_is_saved_is_the_vectors_alone():
    w = matrix(64, 48)
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0))
    train(optimizer, [w], 2, 0.05)
    assert sum(value.numel() for value in optimizer._known[w].values()) == 16 * 48 + 1


def test_a_gpt_learns_under_a_bound_around_sgd():
    model = GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2), torch.Generator().manual_seed(0))
    optimizer = SpectralBound(torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9), model=model)
    ids = torch.randint(7, (8, 9), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(ids[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.isfinite().all() for p in model.parameters())


# --- bad input ------------------------------------------------------------------------------


def sgd(*parameters, **options):
    return torch.optim.SGD([{"params": list(parameters), **options}], lr=1.0)


def test_repr_names_both():
    assert repr(SpectralBound(sgd(matrix(2, 2)))).startswith("SpectralBound(SGD (")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpectralBound(sgd(matrix(2, 2)), 0.0), "tau is 0.0: expected a positive number; try 0.05"),
        (lambda: SpectralBound(sgd(matrix(2, 2)), -1), "tau is -1"),
        (lambda: SpectralBound(sgd(matrix(2, 2)), math.nan), "tau is nan"),
        (lambda: SpectralBound(sgd(matrix(2, 2)), math.inf), "tau is inf"),
        (lambda: SpectralBound(sgd(matrix(2, 2)), None), "tau is None"),
        (
            lambda: SpectralBound(sgd(matrix(2, 2), tau=-3.0)),
            "tau is -3.0: expected a positive number, or None for a group without a bound; try 0.05",
        ),
        (lambda: SpectralBound([matrix(2, 2)]), r"optimizer is \[.*: expected a torch.optim.Optimizer; try"),
        (lambda: SpectralBound(torch.optim.SGD), "optimizer is SGD itself: expected"),
        (
            lambda: SpectralBound(SpectralBound(sgd(matrix(2, 2)))),
            "optimizer is SpectralBound, which has a tau already: expected one without; wrap torch.optim",
        ),
        (lambda: SpectralBound(AdamW2([matrix(2, 2)])), "optimizer is AdamW2, which has a tau already"),
        (
            lambda: SpectralBound(sgd(nn.Parameter(torch.ones(3)))),
            "SGD holds no matrix to bound: expected a parameter with two or more dimensions",
        ),
        (
            lambda: SpectralBound(sgd(matrix(2, 2)), model=Tiny()),
            r"SGD holds none of the 8 matrices of Tiny \(the first is encoder.layers.0.self_attn.in_proj_",
        ),
        (
            lambda: SpectralBound(sgd(matrix(2, 2)), model=nn.Linear(2, 2)),
            r"Linear has no blocks to bound: .* try names=\[...\]",
        ),
        (lambda: SpectralBound(sgd(matrix(2, 2)), model=Tiny(), names=["head"]), "name is 'head': expected"),
        (lambda: SpectralBound(sgd(matrix(2, 2)), names=["head"]), "names is given without a model"),
        (
            lambda: SpectralBound(sgd(nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64)))),
            r"parameter 0 is complex \(torch.complex64\): expected a dense real matrix; leave it to another",
        ),
        (
            lambda: SpectralBound(sgd(nn.Parameter(torch.eye(2).to_sparse()))),
            r"parameter 0 is sparse \(torch.sparse_coo\)",
        ),
        (
            lambda: SpectralBound(sgd(matrix(2, 2), nn.Parameter(torch.zeros(0, 4)))),
            r"parameter 1 is empty, of shape \(0, 4\)",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
def test_a_parameter_listed_twice():
    w = matrix(2, 2)
    with pytest.raises(ValueError, match="parameter w is listed twice: expected each once"):
        SpectralBound(torch.optim.SGD([("w", w), ("w", w)], lr=1.0))


@pytest.mark.parametrize(
    "group",
    [{"params": [matrix(2, 2)], "tau": -1}, {"params": [nn.Parameter(torch.zeros(0, 2))]}],
    ids=["tau", "empty"],
)
def test_a_bad_group_is_not_added(group):
    optimizer = SpectralBound(sgd(matrix(2, 2)))
    with pytest.raises(ValueError, match="tau is -1|parameter 1 is empty"):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


def test_parameters_that_are_exchanged_between_steps():
    a, b = matrix(2, 2), matrix(3, 3)
    optimizer = SpectralBound(torch.optim.SGD([("a", a), ("b", b)], lr=1.0))
    set_gradients([a, b], 0)
    optimizer.param_groups[0]["params"][1] = matrix(3, 3)
    before = a.detach().clone()
    with pytest.raises(
        ValueError, match=r"the param groups have changed, and hold b where another .* 2 of the"
    ):
        optimizer.step()
    assert torch.equal(a, before)
    del optimizer.param_groups[0]["params"][1]
    with pytest.raises(ValueError, match="hold nothing where another parameter was"):
        optimizer.step()


def test_a_step_that_the_inner_optimizer_refuses_is_not_reported():
    w = matrix(4, 4)
    optimizer = SpectralBound(torch.optim.SparseAdam([w]), tau=0.05)
    set_gradients([w], 0)
    with pytest.raises(RuntimeError, match="SparseAdam"):
        optimizer.step()
    assert optimizer.last_step == {}


def test_a_tau_that_is_spoilt_between_steps():
    w = matrix(2, 2)
    optimizer = SpectralBound(sgd(w))
    set_gradients([w], 0)
    optimizer.param_groups[0]["tau"] = -0.1
    with pytest.raises(ValueError, match="tau is -0.1"):
        optimizer.step()


def test_a_state_of_other_shapes_is_refused_and_nothing_loaded():
    w, v = matrix(30, 20), matrix(20, 30)
    first = SpectralBound(torch.optim.Adam([("w", w)], lr=1.0))
    second = SpectralBound(torch.optim.Adam([("v", v)], lr=1.0))
    train(first, [w], 2, 0.05)
    train(second, [v], 2, 0.05)
    before = copy.deepcopy(second.state_dict())
    message = r"saved state of parameter v has shape \(30, 20\): expected shape \(20, 30\); load it into"
    with pytest.raises(ValueError, match=message):
        second.load_state_dict(first.state_dict())
    after = second.state_dict()
    assert torch.equal(after["state"][0]["exp_avg"], before["state"][0]["exp_avg"])
    assert after["param_groups"] == before["param_groups"]
    train(second, [v], 2, 0.05, seed=9)


def test_vectors_of_other_shapes_are_refused_where_the_inner_optimizer_keeps_nothing():
    first, second = SpectralBound(sgd(matrix(30, 20))), SpectralBound(sgd(matrix(20, 30)))
    train(first, first.param_groups[0]["params"], 2, 0.05)
    with pytest.raises(ValueError, match=r"saved state of parameter 0 has shape \(30, 20\): expected shape"):
        second.load_state_dict(first.state_dict())
    assert not second._known


def test_a_saved_tau_takes_the_place_of_ones_own_and_a_spoilt_one_is_refused():
    saved, ours = SpectralBound(sgd(matrix(6, 4)), 0.2), SpectralBound(sgd(matrix(6, 4)), 0.01)
    ours.load_state_dict(saved.state_dict())
    assert ours.param_groups[0]["tau"] == 0.2
    spoilt = saved.state_dict()
    spoilt["param_groups"][0]["tau"] = 0
    with pytest.raises(ValueError, match="tau is 0: expected a positive number"):
        ours.load_state_dict(spoilt)
    assert ours.param_groups[0]["tau"] == 0.2


def test_a_state_of_other_groups_is_refused_and_nothing_loaded():
    w, v = matrix(30, 20), matrix(30, 20)
    first, second = SpectralBound(sgd(w, matrix(2, 2))), SpectralBound(sgd(v))
    train(second, [v], 2, 0.05)
    kept = second._known[v]
    with pytest.raises(ValueError, match="parameter group"):
        second.load_state_dict(first.state_dict())
    assert second._known[v] is kept


def test_vectors_saved_for_another_cut_are_made_anew():
    model = Tiny()
    whole = SpectralBound(torch.optim.SGD(model.parameters(), lr=1.0))
    tiny_step(model, whole)
    by_part = SpectralBound(torch.optim.SGD(model.parameters(), lr=1.0), model=model)
    by_part.load_state_dict(whole.state_dict())
    tiny_step(model, by_part)
    assert by_part.last_step["encoder.layers.0.self_attn.in_proj_weight"].rho_requested.shape == (3,)
    whole.load_state_dict(by_part.state_dict())
    tiny_step(model, whole)
    assert whole.last_step["1"].rho_requested.shape == ()  # embedding, in_proj_weight
