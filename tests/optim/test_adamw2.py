"""AdamW²: it is AdamW where nothing binds, and keeps its promise where the bound does."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib import GPT, AdamW2, GPTConfig, bounded_parameters
from course_lib.optim import SIGMA_FLOOR, SpectralBound, sigma
from course_lib.optim.sigma import as_matrix, start_block

EXACT = {"rtol": 1e-5, "atol": 1e-7}  # the same formula, its operations in another order


def matrix(m, n, seed=0, scale=1.0):
    values = scale * torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
    return torch.nn.Parameter(values)


def steps(optimizer, parameters, n, seed=1):
    """n steps with gradients that depend on the seed alone."""
    g = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=g).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_without_a_bound_it_is_adamw(maximize, weight_decay):
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": weight_decay, "maximize": maximize}
    ours, theirs = [matrix(6, 4), matrix(4, 9)], [matrix(6, 4), matrix(4, 9)]
    steps(AdamW2(ours, tau=None, **options), ours, 20)
    steps(torch.optim.AdamW(theirs, **options), theirs, 20)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("tau", [None, 1e6])
def test_each_group_has_options_of_its_own(tau):
    options = [
        {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "maximize": False},
        {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "maximize": False},
        {"lr": 1e-2, "betas": (0.5, 0.8), "eps": 1e-8, "weight_decay": 0.1, "maximize": False},
        {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 0.3, "weight_decay": 0.1, "maximize": False},
        {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0, "maximize": False},
        {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "maximize": True},
    ]
    ours, theirs = ([matrix(6, 4) for _ in options] for _ in range(2))
    groups = [[{"params": [p], **o} for p, o in zip(ps, options, strict=True)] for ps in (ours, theirs)]
    steps(AdamW2(groups[0], tau=tau), ours, 10)
    steps(torch.optim.AdamW(groups[1]), theirs, 10)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_a_bound_that_never_bites_changes_nothing():
    ours, theirs = [matrix(6, 4)], [matrix(6, 4)]
    optimizer = AdamW2(ours, lr=1e-3, tau=1e6)
    steps(optimizer, ours, 20)
    steps(torch.optim.AdamW(theirs, lr=1e-3), theirs, 20)
    torch.testing.assert_close(ours[0], theirs[0], **EXACT)
    assert not optimizer.last_step["0"].cut


@given(st.integers(2, 40), st.integers(2, 40), st.floats(0.005, 0.5), st.integers(0, 99))
def test_a_step_never_exceeds_tau(m, n, tau, seed):
    """σ₁(αΔW) ≤ τ σ₁(W), and so σ₁ grows by 1 + τ at most, for every one of ten steps."""
    w = matrix(m, n, seed)
    optimizer = AdamW2([w], lr=10.0, tau=tau, weight_decay=0.0)
    for t in range(10):
        before = w.detach().clone()
        steps(optimizer, [w], 1, seed=seed + t)
        sigma = torch.linalg.svdvals(before)[0]
        ratio = (torch.linalg.svdvals(before - w.detach())[0] / sigma).item()
        # Gradients drawn anew are the worst case for vectors kept from the last step: training is far
        # closer (0.4 %, bench/sigma.py).
        assert ratio <= 1.1 * tau
        assert torch.linalg.svdvals(w.detach())[0] <= (1 + 1.1 * tau) * sigma


def test_the_report_tells_rho_lr_and_whether_the_bound_bit():
    w = matrix(8, 5)
    optimizer = AdamW2([("w", w)], lr=1.0, tau=0.05, weight_decay=0.0)
    before = w.detach().clone()
    steps(optimizer, [w], 1)
    report = optimizer.last_step["w"]
    sigma_w = torch.linalg.svdvals(before)[0]
    update = torch.sign(w.grad)  # of the first step: m̂/√v̂ = g/|g|
    assert report.rho_requested.item() == pytest.approx(
        (torch.linalg.svdvals(update)[0] / sigma_w).item(), rel=1e-2
    )
    assert report.cut
    assert report.lr.item() == pytest.approx(0.05 / report.rho_requested.item(), rel=1e-6)
    torch.testing.assert_close(w.detach(), before - report.lr * update, rtol=1e-4, atol=1e-6)


def test_the_report_is_of_the_last_step_whatever_a_scheduler_makes_of_the_rate_after_it():
    w = matrix(8, 5)
    optimizer = AdamW2([w], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    steps(optimizer, [w], 1)
    scheduler.step()
    assert optimizer.last_step["0"].lr.item() == pytest.approx(1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decay_uses_the_learning_rate_that_was_used(dtype):
    w = torch.nn.Parameter(matrix(8, 5).detach().to(dtype))
    before = w.detach().clone().float()
    optimizer = AdamW2([("w", w)], lr=1.0, tau=0.05, weight_decay=5.0)
    steps(optimizer, [w], 1)
    lr = optimizer.last_step["w"].lr
    expected = before * (1 - 5.0 * lr) - lr * torch.sign(w.grad).float()
    # Moments of bf16 are rounded by up to 2⁻⁸, and so is the weight.
    rtol = 1e-4 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(w.detach().float(), expected, rtol=rtol, atol=rtol / 100)


def test_a_matrix_of_zeros_does_not_freeze():
    w = torch.nn.Parameter(torch.zeros(6, 4))
    steps(AdamW2([w], lr=1.0, tau=0.5, weight_decay=0.0), [w], 1)
    assert torch.linalg.svdvals(w.detach())[0].item() == pytest.approx(0.5 * SIGMA_FLOOR, rel=1e-2)


def test_vectors_are_never_bounded():
    v = torch.nn.Parameter(torch.ones(5))
    optimizer = AdamW2([v], lr=1.0, tau=0.01, weight_decay=0.0)
    steps(optimizer, [v], 1)
    assert optimizer.last_step == {}
    torch.testing.assert_close(v.detach(), 1 - torch.sign(v.grad), rtol=0, atol=1e-6)


def test_a_model_is_bounded_inside_its_blocks_only():
    model = GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2))
    names = set(bounded_parameters(model))
    assert "blocks.1.mlp.w_out.weight" in names
    assert not any(n.startswith(("token", "position", "head", "final")) or n.endswith("bias") for n in names)
    assert len(names) == 2 * 6
    optimizer = AdamW2(model, lr=1e-2)
    model(torch.zeros(1, 8, dtype=torch.long)).logsumexp(-1).sum().backward()
    optimizer.step()
    assert set(optimizer.last_step) == names


def test_fused_projections_of_a_model_are_bounded_part_by_part():
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    optimizer = AdamW2(model, lr=1.0)
    model(torch.randn(2, 3, 8)).square().sum().backward()
    optimizer.step()
    assert optimizer.last_step["layers.1.self_attn.in_proj_weight"].rho_requested.shape == (3,)
    assert optimizer.last_step["layers.1.linear1.weight"].rho_requested.shape == ()


def test_groups_have_their_own_tau():
    a, b, c = matrix(4, 4), matrix(4, 4), matrix(4, 4)
    groups = [{"params": [a], "tau": 0.01}, {"params": [b], "tau": 0.1}, {"params": [c], "tau": None}]
    optimizer = AdamW2(groups, lr=1.0)
    steps(optimizer, [a, b, c], 1)
    assert set(optimizer.last_step) == {"0", "1"}
    cut = {k: (r.lr * r.rho_requested).item() for k, r in optimizer.last_step.items()}  # lr asked for is 1
    assert cut == pytest.approx({"0": 0.01, "1": 0.1}, rel=1e-5)
    optimizer.param_groups[0]["tau"] = 0.2
    steps(optimizer, [a, b, c], 1)
    cut = {k: (r.lr * r.rho_requested).item() for k, r in optimizer.last_step.items()}
    assert cut == pytest.approx({"0": 0.2, "1": 0.1}, rel=1e-5)


def test_state_dict_round_trip_goes_on_bit_for_bit():
    w, v = matrix(8, 5), matrix(8, 5)
    first, second = AdamW2([w], lr=1.0), AdamW2([v], lr=1.0)
    steps(first, [w], 5)
    with torch.no_grad():
        v.copy_(w)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(first, [w], 5, seed=9)
    steps(second, [v], 5, seed=9)
    assert torch.equal(w, v)


def test_state_of_a_plain_adamw_is_taken_over():
    w, v = matrix(8, 5), matrix(8, 5)
    plain, ours = torch.optim.AdamW([w], lr=1e-2), AdamW2([v], lr=1e-2, tau=None)
    steps(plain, [w], 5)
    with torch.no_grad():
        v.copy_(w)
    state = copy.deepcopy(plain.state_dict())  # else the two would share their moments
    state["param_groups"][0] = {**ours.state_dict()["param_groups"][0], "params": [0]}
    ours.load_state_dict(state)
    steps(plain, [w], 5, seed=9)
    steps(ours, [v], 5, seed=9)
    torch.testing.assert_close(w, v, **EXACT)


def test_closures_schedulers_and_parameters_without_gradients():
    w, idle = matrix(4, 4), matrix(4, 4)
    optimizer = AdamW2([w, idle], lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t)
    before = idle.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    scheduler.step()
    second = optimizer.step(closure)
    assert second < first
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-2)
    assert torch.equal(idle, before)
    assert idle not in optimizer.state


def test_bf16_parameters_are_bounded():
    w = torch.nn.Parameter(torch.randn(16, 16, dtype=torch.bfloat16))
    before = w.detach().float().clone()
    optimizer = AdamW2([w], lr=1.0, tau=0.05, weight_decay=0.0)
    steps(optimizer, [w], 1)
    ratio = torch.linalg.svdvals(before - w.detach().float())[0] / torch.linalg.svdvals(before)[0]
    assert w.dtype == torch.bfloat16
    assert ratio.item() == pytest.approx(0.05, rel=0.2)  # bf16 keeps three digits of each entry
    assert optimizer.last_step["0"].rho_requested.dtype == torch.float32


def test_a_gradient_that_is_not_finite_does_what_it_does_in_adamw():
    w, good = matrix(4, 4), matrix(4, 4)
    optimizer = AdamW2([w, good], lr=1e-2)
    w.grad, good.grad = torch.full((4, 4), torch.nan), torch.ones(4, 4)
    optimizer.step()
    assert w.isnan().all()
    assert good.isfinite().all()


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([1e-8, 1e-3, 1.0, 1e3, 1e8]),
    st.integers(0, 99),
)
def test_the_factor_of_a_cut_step_is_that_of_an_svd(m, n, rank, scale, seed):
    """Of rank ≤ 8, as there are vectors, so that only rounding and the mean of Ritz values are off."""
    g = torch.Generator().manual_seed(seed)

    def low_rank():
        return torch.randn(m, rank, generator=g) @ torch.randn(rank, n, generator=g)

    w = torch.nn.Parameter(scale * low_rank())
    optimizer = SpectralBound(torch.optim.SGD([w], lr=1.0), tau=0.05)
    for _ in range(2):  # cold and warm
        before = w.detach().double()
        w.grad = max(scale, SIGMA_FLOOR) * low_rank()
        optimizer.step()
        asked = before - (before.float() - w.grad).double()  # what SGD's step was, rounding included
        size = max(torch.linalg.svdvals(before)[0].item(), SIGMA_FLOOR)
        exact = min(1.0, 0.05 * size / torch.linalg.svdvals(asked)[0].item())
        assert optimizer.last_step["0"].factor.item() == pytest.approx(exact, rel=2e-3)


def test_start_vectors_are_the_same_in_every_process_and_leave_the_dice_alone():
    drawn = []
    for seed in (1, 2):
        sigma._start_rows.cache_clear()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        drawn.append(start_block(torch.zeros(30, 20)))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*drawn)
    torch.testing.assert_close(drawn[0] @ drawn[0].T, torch.eye(8), rtol=0, atol=1e-5)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 40), st.integers(0, 99))
def test_the_upper_bound_is_one_whatever_the_vectors_have_seen(m, n, rank, seed):
    g = torch.Generator().manual_seed(seed)
    w = as_matrix(torch.randn(m, rank, generator=g) @ torch.randn(rank, n, generator=g))[None]
    exact = torch.linalg.matrix_norm(w.double(), 2).item()
    frobenius = torch.linalg.matrix_norm(w)
    block = start_block(w)
    for _ in range(3):
        first, after = sigma.iterate(block, [w])
        for seen in (first, after):
            largest = sigma.largest_eigenvalue(seen.gram).sqrt()
            bound = sigma.upper_bound(largest, sigma.trace(seen.gram), frobenius).item()
            assert exact * (1 - 1e-6) <= bound <= frobenius.item() * (1 + 2e-5)  # its own allowance
        block = after.block
    if rank <= 8:
        assert bound == pytest.approx(exact, rel=1e-2)


def test_the_largest_eigenvalue_is_short_by_no_more_than_is_said():
    """Worst where the others are a little smaller: over all gaps, by less than k/(4096·e)."""
    gaps = torch.logspace(-6, 0, 200)
    values = torch.ones(200, 8) - gaps[:, None] * torch.tensor([0.0] + [1.0] * 7)
    short = 1 - sigma.largest_eigenvalue(torch.diag_embed(values))
    assert 1e-4 < short.max() <= 8 / (4096 * math.e)
    assert short.min() >= -1e-6  # rounding
    assert sigma.largest_eigenvalue(torch.zeros(1, 8, 8)).tolist() == [0.0]


def test_a_matrix_is_turned_upright_in_its_own_precision_or_fp32():
    assert as_matrix(torch.zeros(3, 5)).shape == (5, 3)
    assert as_matrix(torch.zeros(5, 3)).shape == (5, 3)
    assert as_matrix(torch.zeros(3, 5, dtype=torch.float64)).dtype == torch.float64
    assert as_matrix(torch.zeros(3, 5, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_step_runs_on_meta_so_nothing_waits_for_the_host():
    with torch.device("meta"):
        model = GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2))
        ids = torch.zeros(1, 8, dtype=torch.long)
    optimizer = AdamW2(model, lr=1e-2)
    model(ids).sum().backward()
    optimizer.step()
    report = optimizer.last_step["blocks.0.attention.w_q.weight"]
    assert report.lr.is_meta
    assert report.cut.is_meta


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": -1.0}, "lr is -1.0: expected a number of at least 0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": "fast"}, "lr is 'fast'"),
        (
            {"tau": 0.0},
            "tau is 0.0: expected a positive number, or None for a group without a bound; try 0.05",
        ),
        ({"tau": math.inf}, "tau is inf"),
        ({"betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\): expected two numbers in \[0, 1\)"),
        ({"betas": (0.9,)}, r"betas is \(0.9,\): expected two numbers"),
        ({"eps": -1e-8}, "eps is -1e-08"),
        ({"weight_decay": math.inf}, "weight_decay is inf"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        AdamW2([matrix(2, 2)], **change)


def test_a_bad_group_is_not_added():
    optimizer = AdamW2([matrix(2, 2)])
    with pytest.raises(ValueError, match="tau is -1"):
        optimizer.add_param_group({"params": [matrix(2, 2)], "tau": -1})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_gradients_that_adam_cannot_take(kind):
    dtype = torch.complex64 if kind == "complex" else torch.float32
    w = torch.nn.Parameter(torch.zeros(3, 3, dtype=dtype))
    w.grad = torch.eye(3, dtype=dtype)
    if kind == "sparse":
        w.grad = w.grad.to_sparse()
    with pytest.raises(ValueError, match=f"gradient of w is {kind}: expected a dense real one"):
        AdamW2([("w", w)]).step()


@pytest.mark.parametrize("dim", [0, 1])
def test_fused_matrices_are_bounded_one_by_one(dim):
    """A parameter of three matrices moves as three parameters do, whichever way they lie side by side."""
    apart = [matrix(6, 6, seed=i, scale=10.0**i) for i in range(3)]
    fused = torch.nn.Parameter(torch.cat([w.detach() for w in apart], dim))
    ours = AdamW2([{"params": [fused], "split": (dim, 3)}], lr=1.0, tau=0.05)
    theirs = AdamW2(apart, lr=1.0, tau=0.05)
    g = torch.Generator().manual_seed(1)
    for _ in range(5):
        for w in apart:
            w.grad = torch.randn(w.shape, generator=g)
        fused.grad = torch.cat([w.grad for w in apart], dim)
        ours.step()
        theirs.step()
    for w, part in zip(apart, fused.chunk(3, dim), strict=True):
        torch.testing.assert_close(part, w, rtol=1e-4, atol=1e-6)
    report = ours.last_step["0"]
    assert report.lr.shape == (3,)
    assert report.lr[0] < report.lr[1] < report.lr[2]  # the larger the matrix, the larger its step may be


def test_a_matrix_that_somebody_else_has_shrunk_is_measured_anew():
    w = matrix(8, 5)
    optimizer = AdamW2([w], lr=1e-2, tau=0.05, weight_decay=0.0)
    steps(optimizer, [w], 5)
    assert not optimizer.last_step["0"].cut
    with torch.no_grad():
        w.mul_(1e-2)
    before = w.detach().clone()
    steps(optimizer, [w], 1)
    ratio = torch.linalg.svdvals(before - w.detach())[0] / torch.linalg.svdvals(before)[0]
    assert ratio <= 0.05 * 1.02


def test_what_a_cheap_bound_excuses_is_indeed_within_tau():
    """Over 40 steps at a small learning rate no matrix is cut, and none had to be."""
    w = matrix(12, 7)
    optimizer = AdamW2([w], lr=5e-3, tau=0.05)
    for t in range(40):
        before = w.detach().clone()
        steps(optimizer, [w], 1, seed=t)
        report = optimizer.last_step["0"]
        decay = 1 - report.lr.item() * 0.01
        ratio = (
            torch.linalg.svdvals(before * decay - w.detach())[0] / torch.linalg.svdvals(before)[0]
        ).item()
        assert ratio <= 0.05 * 1.1
        assert report.rho_requested.item() >= ratio * 0.9


def test_a_cut_is_exact_and_nothing_else_is_cut():
    """Against an SVD, in warm steps: a matrix that has to be cut, and one that only its norm would cut."""
    g = torch.Generator().manual_seed(3)
    cut, free = matrix(12, 7), matrix(12, 7)
    optimizer = AdamW2(
        [{"params": [cut], "lr": 0.5}, {"params": [free], "lr": 0.02}], tau=0.05, weight_decay=0.0
    )
    direction = torch.randn(12, 7, generator=g)
    for _ in range(20):
        before = [w.detach().clone() for w in (cut, free)]
        for w in (cut, free):
            w.grad = direction + 0.1 * torch.randn(12, 7, generator=g)
        optimizer.step()
        for old, w, name, lr in zip(before, (cut, free), "01", (0.5, 0.02), strict=True):
            used = optimizer.last_step[name].lr.item()
            share = torch.linalg.svdvals((old - w.detach()) / used)[0] / torch.linalg.svdvals(old)[0]
            assert used == pytest.approx(min(lr, 0.05 / share.item()), rel=0.01)
    assert optimizer.last_step["0"].cut
