"""What every optimizer of torch's promises, of `AdamW2`; and how it refuses. Around models, of both."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib import GPT, AdamW2, GPTConfig, SpectralBound, bounded_parameters
from course_lib.optim import SIGMA_FLOOR, limit

TAU = 0.05


def weight(m, n, seed=0):
    return nn.Parameter(torch.randn(m, n, generator=torch.Generator().manual_seed(seed)))


def steps(optimizer, n, seed=1):
    """n steps with gradients that depend on the seed alone."""
    g = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.randn(p.shape, generator=g)
        optimizer.step()


def moved(before, after):
    """σ₁ of a step beside that of the matrix before it."""
    return (torch.linalg.matrix_norm(after - before, 2) / torch.linalg.matrix_norm(before, 2)).item()


# --- models -----------------------------------------------------------------------------------------


def gpt():
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2))


def adamw2(model, **options):
    return AdamW2(model, **{"lr": 1.0, "tau": TAU, "weight_decay": 0.0, **options})


def around_sgd(model):
    return SpectralBound(torch.optim.SGD(model.parameters(), lr=10.0), TAU, model=model)


both = pytest.mark.parametrize("make", [adamw2, around_sgd])


def ids(seed, batch=4):
    return torch.randint(7, (batch, 8), generator=torch.Generator().manual_seed(seed))


def loss(model, tokens):
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@both
def test_gradients_accumulate(make):
    """Two halves of a batch, one backward each, make the step of the whole."""
    whole, halves = gpt(), gpt()
    ours, theirs = make(whole), make(halves)
    loss(whole, ids(0)).backward()
    for half in ids(0).chunk(2):
        (loss(halves, half) / 2).backward()
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
        b.grad.copy_(a.grad)  # Adam's first step divides by |g|, and would blow rounding up
    ours.step()
    theirs.step()
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


@both
def test_a_compiled_model_is_bounded_like_the_bare_one(make):
    bare, model = gpt(), gpt()
    compiled = torch.compile(model, backend="eager")
    ours, theirs = make(bare), make(compiled)
    for seed in range(3):
        for net, optimizer in ((bare, ours), (compiled, theirs)):
            optimizer.zero_grad()
            loss(net, ids(seed)).backward()
            optimizer.step()
    assert {name.removeprefix("_orig_mod.") for name in theirs.last_step} == set(ours.last_step)
    for a, b in zip(bare.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@both
def test_a_head_tied_to_the_embedding_is_stepped_once_and_stays_free(make):
    model = gpt()
    model.head.weight = next(m for m in model.modules() if isinstance(m, nn.Embedding)).weight
    optimizer = make(model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    before = weights(model)
    loss(model, ids(0)).backward()
    optimizer.step()
    assert set(optimizer.last_step) == set(bounded_parameters(model))
    tied = next(name for name, p in model.named_parameters() if p is model.head.weight)
    assert moved(before[tied], weights(model)[tied]) > TAU


@both
def test_autocast_with_a_scaler_unscales_and_skips(make):
    """fp16's recipe: a step with an overflow is left out, and the next one is bounded like any other."""
    model = gpt()
    optimizer, scaler = make(model), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for spoilt in (False, True, False, False):
        before = weights(model)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scaler.scale(loss(model, ids(0))).backward()
        if spoilt:
            next(model.parameters()).grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        after = weights(model)
        for name, old in before.items():
            if spoilt:
                assert torch.equal(after[name], old), name
        if not spoilt:
            for name in bounded_parameters(model):
                assert 0 < moved(before[name], after[name]) <= 1.02 * TAU, name
    assert scaler.get_scale() == 2.0**9


# --- AdamW2: which matrices it can hold ---------------------------------------------------------------


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([1e-8, 1e-3, 1.0, 1e3, 1e8]),
    st.sampled_from([1e-8, 1.0, 1e8]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(0, 99),
)
def test_a_step_is_within_tau_over_shapes_ranks_scales_and_precisions(m, n, rank, scale, size, dtype, seed):
    """The gradients have rank 1 to 5: their signs, which Adam's first step takes, need not."""
    g = torch.Generator().manual_seed(seed)

    def drawn(scale):
        return (scale * torch.randn(m, rank, generator=g) @ torch.randn(rank, n, generator=g)).to(dtype)

    w = nn.Parameter(drawn(scale))
    optimizer = AdamW2([w], lr=1e9, tau=TAU, weight_decay=0.0)  # lr enough to be cut at each scale
    gradient = drawn(size)
    for _ in range(3):
        before = w.detach().double()
        w.grad = gradient
        optimizer.step()
        sigma = torch.linalg.matrix_norm(before, 2).item()
        # Rounding changes each entry of what is kept by a share u at most.
        unit = torch.finfo(dtype).eps / 2 * math.sqrt(min(m, n)) * (1 + TAU) * max(sigma, SIGMA_FLOOR)
        step = torch.linalg.matrix_norm(w.detach().double() - before, 2).item()
        # A share for the estimate, as in test_adamw2.
        assert step <= 1.1 * TAU * max(sigma, SIGMA_FLOOR) + 2 * unit
        if dtype == torch.float32:
            assert step >= 0.9 * TAU * max(sigma, SIGMA_FLOOR) - 2 * unit
    assert optimizer.last_step["0"].rho_requested.dtype == torch.float32


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels"])
def test_convolutions_count_as_out_by_rest_in_any_memory_format(order):
    kernel = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    w = nn.Parameter(kernel.to(memory_format=order))
    flat = nn.Parameter(kernel.flatten(1))
    convolution, matrix = (AdamW2([p], lr=1.0, tau=TAU, weight_decay=0.1) for p in (w, flat))
    for seed in range(3):
        before = w.detach().flatten(1)
        gradient = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
        w.grad, flat.grad = gradient.to(memory_format=order), gradient.flatten(1)
        convolution.step()
        matrix.step()
        lr = convolution.last_step["0"].lr.item()
        assert moved(before, w.detach().flatten(1) + 0.1 * lr * before) <= 1.1 * TAU  # drawn anew
    torch.testing.assert_close(w.detach().flatten(1), flat.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tau", [None, 1e6])
@pytest.mark.parametrize("of", ["weight", "gradient", "moments"])
def test_memory_in_another_order_changes_nothing(of, tau):
    """`torch.autograd.grad` gives transposed gradients, and a saved state may be of another memory format."""
    turned = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).T
    plain = turned.contiguous()
    w, v = nn.Parameter(turned.clone() if of == "weight" else plain.clone()), nn.Parameter(plain.clone())
    assert (w.stride() == v.stride()) == (of != "weight")
    ours, theirs = AdamW2([w], lr=1e-2, tau=tau), torch.optim.AdamW([v], lr=1e-2, foreach=False)
    for seed in range(3):
        v.grad = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed))
        w.grad = v.grad.T.contiguous().T if of == "gradient" else v.grad.clone()
        ours.step()
        theirs.step()
        if of == "moments":
            for name in ("exp_avg", "exp_avg_sq"):
                ours.state[w][name] = ours.state[w][name].T.contiguous().T
    torch.testing.assert_close(w.detach(), v.detach(), rtol=1e-5, atol=1e-6)


# --- AdamW2: copies, states, late parameters ----------------------------------------------------------


def test_a_deep_copy_goes_on_alone_and_alike():
    w = weight(8, 5)
    optimizer = AdamW2([("w", w)], lr=1.0)
    steps(optimizer, 3)
    twin = copy.deepcopy(optimizer)
    (v,) = twin.param_groups[0]["params"]
    before = w.detach().clone()
    steps(twin, 3)
    assert torch.equal(w, before)
    steps(optimizer, 3)
    assert torch.equal(w, v)
    assert set(twin.last_step) == {"w"}


def test_a_saved_state_of_bf16_weights_goes_on_bit_for_bit():
    """Vectors are of fp32, whatever the weights are."""
    w = nn.Parameter(weight(20, 12).detach().bfloat16())
    ours = AdamW2([w], lr=1.0)

    def step(optimizer, parameter, seed):
        g = torch.Generator().manual_seed(seed)
        parameter.grad = torch.randn(20, 12, generator=g).bfloat16()
        optimizer.step()

    for seed in range(3):
        step(ours, w, seed)
    v = nn.Parameter(w.detach().clone())
    theirs = AdamW2([v], lr=1.0)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for name in ("block_weight", "block_update", "sigma_low"):
        assert torch.equal(theirs.state[v][name], ours.state[w][name]), name
    for seed in range(3, 9):
        step(ours, w, seed)
        step(theirs, v, seed)
        assert torch.equal(ours.last_step["0"].rho_requested, theirs.last_step["0"].rho_requested)
    assert torch.equal(w, v)


def test_parameters_that_come_later_start_with_moments_of_their_own():
    first, late = weight(8, 5), weight(6, 6, seed=1)
    optimizer = AdamW2([("first", first)], lr=1.0, tau=TAU, weight_decay=0.0)
    steps(optimizer, 5)
    optimizer.add_param_group({"params": [("late", late)], "tau": 0.01})
    before = [first.detach().clone(), late.detach().clone()]
    steps(optimizer, 1)
    assert optimizer.state[first]["step"] == 6
    assert optimizer.state[late]["step"] == 1
    assert moved(before[0], first.detach()) == pytest.approx(TAU, rel=0.1)  # gradients are drawn anew
    assert moved(before[1], late.detach()) == pytest.approx(0.01, rel=0.02)


def test_the_state_of_a_plain_adamw_is_taken_over_as_it_was_saved():
    w, v = weight(8, 5), weight(8, 5)
    plain, ours = torch.optim.AdamW([w], lr=1e-2), AdamW2([v], lr=3.0, tau=1e6)
    steps(plain, 5)
    with torch.no_grad():
        v.copy_(w)
    ours.load_state_dict(copy.deepcopy(plain.state_dict()))  # else the two would share their moments
    assert ours.param_groups[0]["lr"] == 1e-2
    assert ours.param_groups[0]["tau"] == 1e6
    steps(plain, 5, seed=9)
    steps(ours, 5, seed=9)
    torch.testing.assert_close(w, v, rtol=1e-5, atol=1e-7)  # the same formula in another order


def test_decay_is_outside_the_bound_of_the_update():
    w = weight(8, 5)
    before = w.detach().clone()
    optimizer = AdamW2([w], lr=1e-3, tau=TAU, weight_decay=200.0)  # decay alone moves W by 0.2, four times τ
    steps(optimizer, 1)
    assert not optimizer.last_step["0"].cut
    torch.testing.assert_close(w.detach(), 0.8 * before - 1e-3 * w.grad.sign(), rtol=1e-5, atol=1e-6)


def test_a_saved_tau_takes_the_place_of_ones_own():
    saved, ours = AdamW2([weight(8, 5)], tau=0.2), AdamW2([weight(8, 5)], tau=0.01)
    ours.load_state_dict(saved.state_dict())
    assert ours.param_groups[0]["tau"] == 0.2


def test_a_split_that_a_file_has_made_a_list_of():
    """torch's checkpoint functions do, as does JSON."""
    ours = AdamW2([{"params": [weight(6, 6)], "split": (0, 3)}])
    steps(ours, 1)
    state = copy.deepcopy(ours.state_dict())
    state["param_groups"][0]["split"] = [0, 3]
    ours.load_state_dict(state)
    assert ours.last_step == {}  # of a step made before
    steps(ours, 1)
    assert ours.last_step["0"].rho_requested.shape == (3,)


def test_a_state_that_is_emptied_starts_anew_and_is_saved_whole():
    w = weight(8, 5)
    optimizer = AdamW2([w], lr=1.0)
    steps(optimizer, 3)
    optimizer.state.clear()
    steps(optimizer, 2)
    assert optimizer.state[w]["step"] == 2
    v = nn.Parameter(w.detach().clone())
    other = AdamW2([v])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(optimizer, 3, seed=5)
    steps(other, 3, seed=5)
    assert torch.equal(w, v)
    assert torch.equal(optimizer.state[w]["block_update"], other.state[v]["block_update"])


def test_a_group_whose_split_or_place_changes_between_steps():
    w = weight(6, 6)
    optimizer = AdamW2([w], lr=1.0, tau=TAU)
    steps(optimizer, 1)
    optimizer.param_groups[0]["split"] = (0, 3)
    steps(optimizer, 1)
    assert optimizer.last_step["0"].rho_requested.shape == (3,)
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "split": (0, 1), "tau": 0.2}
    steps(optimizer, 1)
    report = optimizer.last_step["0"]
    assert (report.lr * report.rho_requested).item() == pytest.approx(0.2, rel=1e-5)  # lr asked for is 1
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "tau": 0.02}
    steps(optimizer, 1)
    report = optimizer.last_step["0"]
    assert (report.lr * report.rho_requested).item() == pytest.approx(0.02, rel=1e-5)


def kinds():
    """Matrices that are alike but for their type, their order in memory or their device."""
    g = torch.Generator().manual_seed(0)
    plain, turned = torch.randn(9, 6, generator=g), torch.randn(6, 9, generator=g).T
    return [
        plain,
        turned,
        plain.double(),
        plain.bfloat16(),
        plain + 1,
        torch.randn(6, 9, generator=g),
        plain.to("meta"),
        torch.randn(7, 9, generator=g),
    ]


@pytest.mark.parametrize("make", [AdamW2, lambda p: SpectralBound(torch.optim.Adam(p, lr=0.1), TAU)])
def test_matrices_of_several_kinds_go_together_as_they_go_alone(make):
    together, alone = ([nn.Parameter(w.clone()) for w in kinds()] for _ in range(2))
    optimizers = [make(together), *(make([w]) for w in alone)]
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        for a, b in zip(together, alone, strict=True):
            a.grad = torch.empty_like(a).copy_(torch.randn(a.shape, generator=g))
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.1  # to be cut
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        if not a.is_meta:
            torch.testing.assert_close(a, b, rtol=1e-4 if a.dtype != torch.bfloat16 else 1e-2, atol=1e-6)


@pytest.mark.parametrize("make", [AdamW2, lambda p: SpectralBound(torch.optim.Adam(p), TAU)])
def test_as_many_are_stepped_together_as_is_said_and_that_changes_nothing(make, monkeypatch):
    shapes = [(6, 10)] * 5 + [(10, 6)] + [(30, 6)]
    many, few = ([weight(m, n, seed) for seed, (m, n) in enumerate(shapes)] for _ in range(2))
    ours = make(many)
    steps(ours, 3)
    assert [[len(s.members) for s in chunk.stacks] for chunk in ours._plan.chunks] == [[5, 1, 1]]
    monkeypatch.setattr(limit, "CHUNK", {"cpu": 130})
    theirs = make(few)
    steps(theirs, 3)
    chunks = [[len(s.members) for s in chunk.stacks] for chunk in theirs._plan.chunks]
    assert chunks == [[2], [2], [1, 1], [1]]  # a matrix that is larger than that is alone
    for a, b in zip(many, few, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_each_matrix_is_reported_under_its_own_name():
    """Parts and wholes in one chunk: their shorter side is as long."""
    splits = [(0, 3), (0, 1), (0, 3), (1, 2), (0, 1)]
    shapes = [(6, 6), (2, 9), (6, 6), (2, 8), (7, 2)]
    parameters = [weight(m, n, seed) for seed, (m, n) in enumerate(shapes)]
    groups = [{"params": [p], "split": split} for p, split in zip(parameters, splits, strict=True)]
    optimizer = AdamW2(groups, lr=1.0)
    before = [p.detach().clone() for p in parameters]
    steps(optimizer, 1)
    assert len(optimizer._plan.chunks) == 1
    for i, (old, p, (dim, parts)) in enumerate(zip(before, parameters, splits, strict=True)):
        pairs = zip(old.chunk(parts, dim), p.grad.sign().chunk(parts, dim), strict=True)
        exact = [torch.linalg.matrix_norm(d, 2) / torch.linalg.matrix_norm(w, 2) for w, d in pairs]
        found = optimizer.last_step[str(i)].rho_requested.reshape(-1)
        torch.testing.assert_close(found, torch.stack(exact), rtol=0.01, atol=0)


def test_matrices_of_one_shape_that_are_split_in_different_ways():
    groups = [
        {"params": [weight(6, 6)]},
        {"params": [weight(6, 6)], "split": (0, 3)},
        {"params": [weight(6, 6)], "split": (1, 2)},
    ]
    optimizer = AdamW2(groups, lr=1.0)
    steps(optimizer, 1)
    shapes = [tuple(report.rho_requested.shape) for report in optimizer.last_step.values()]
    assert shapes == [(), (3,), (2,)]


@both
def test_parameters_that_take_turns(make):
    """As in alternating training: each step only one half has gradients."""
    model = gpt()
    optimizer = make(model)
    halves = [[n for n in bounded_parameters(model) if n.startswith(f"blocks.{i}")] for i in range(2)]
    for t in range(4):
        before = weights(model)
        optimizer.zero_grad()
        loss(model, ids(t)).backward()
        for name in halves[1 - t % 2]:
            model.get_parameter(name).grad = None
        optimizer.step()
        assert list(optimizer.last_step) == halves[t % 2]
        after = weights(model)
        for name in halves[t % 2]:
            assert 0 < moved(before[name], after[name]) <= 1.1 * TAU  # gradients of other tokens
        for name in halves[1 - t % 2]:
            assert torch.equal(before[name], after[name])


def test_a_state_of_ours_goes_into_a_plain_adamw():
    w, v = weight(8, 5), weight(8, 5)
    ours, plain = AdamW2([w], lr=1e-2, tau=1e6), torch.optim.AdamW([v], lr=1e-2)
    steps(ours, 5)
    with torch.no_grad():
        v.copy_(w)
    plain.load_state_dict(copy.deepcopy(ours.state_dict()))
    steps(plain, 5, seed=9)
    steps(ours, 5, seed=9)
    torch.testing.assert_close(w, v, rtol=1e-5, atol=1e-7)


def test_after_a_restore_the_next_step_is_bounded_whatever_came_in_between():
    w = weight(20, 12)
    optimizer = AdamW2([w], lr=1.0, tau=TAU, weight_decay=0.0)
    steps(optimizer, 5)
    saved, held = copy.deepcopy(optimizer.state_dict()), w.detach().clone()
    w.grad = torch.full_like(w, math.nan)
    optimizer.step()
    assert w.isnan().all()
    with torch.no_grad():
        w.copy_(held)
    optimizer.load_state_dict(saved)
    steps(optimizer, 1, seed=7)
    assert moved(held, w.detach()) == pytest.approx(TAU, rel=0.1)  # gradients are drawn anew


# --- AdamW2: bad input --------------------------------------------------------------------------------


def refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
def test_what_has_no_sigma_or_stands_twice_is_refused():
    w = weight(2, 2)
    refused(lambda: AdamW2([("w", w), ("again", w)]), "parameter again is listed twice: expected each once")
    empty = nn.Parameter(torch.zeros(0, 4))
    refused(lambda: AdamW2([("w", w), ("empty", empty)]), r"parameter empty is empty, of shape \(0, 4\): exp")
    AdamW2([{"params": [("empty", empty)], "tau": None}])
    sparse = nn.Parameter(torch.eye(2).to_sparse())
    refused(lambda: AdamW2([("s", sparse)]), "parameter s is sparse .*: expected a dense real matrix; leave")
    thirds = {"params": [("w", weight(4, 4))], "split": (0, 3)}
    refused(
        lambda: AdamW2([thirds]), r"split of parameter w is \(0, 3\): expected .* its shape \(4, 4\) into"
    )


@pytest.mark.parametrize("split", [(0, 3), (2, 2), (-1, 2), (0, 0), (0, -2)])
def test_a_split_that_makes_no_equal_parts_is_refused(split):
    group = {"params": [("w", weight(4, 4))], "split": split}
    refused(lambda: AdamW2([group]), r"split of parameter w is \(.*\): expected \(dim, parts\) that cuts its")


@pytest.mark.parametrize("saved_by", ["AdamW2", "AdamW"])
def test_a_state_of_other_shapes_is_refused_and_nothing_loaded(saved_by):
    w, v = weight(30, 20), weight(20, 30)
    other = AdamW2([w]) if saved_by == "AdamW2" else torch.optim.AdamW([w])
    ours = AdamW2([("v", v)], lr=0.5)
    around = SpectralBound(torch.optim.Adam([("v", v)], lr=0.5))
    steps(other, 1)
    for optimizer in (ours, around):
        steps(optimizer, 1)
        before = copy.deepcopy(optimizer.state_dict())
        message = r"saved state of parameter v has shape \(30, 20\): expected shape \(20, 30\); load it into"
        refused(lambda o=optimizer: o.load_state_dict(other.state_dict()), message)
        after = optimizer.state_dict()
        assert torch.equal(after["state"][0]["exp_avg"], before["state"][0]["exp_avg"])
        assert after["param_groups"] == before["param_groups"]


def test_a_state_that_is_none_of_ours_is_refused():
    v = weight(4, 4)
    ours = AdamW2([v])
    third = torch.optim.AdamW([weight(4, 4)], amsgrad=True)
    steps(third, 1)
    refused(lambda: ours.load_state_dict(third.state_dict()), "amsgrad=True: expected one without")
    spoilt = copy.deepcopy(ours.state_dict())
    spoilt["param_groups"][0]["tau"] = 0
    refused(lambda: ours.load_state_dict(spoilt), "tau is 0: expected a positive number")
    refused(lambda: ours.load_state_dict(AdamW2([v, weight(2, 2)]).state_dict()), "parameter group")
    assert ours.param_groups[0]["tau"] == TAU
    assert not ours.state


def test_groups_that_are_spoilt_between_steps():
    a, b = weight(3, 3), weight(3, 3, seed=1)
    optimizer = AdamW2([("a", a), ("b", b)])
    steps(optimizer, 1)
    before = a.detach().clone()
    optimizer.param_groups[0]["params"][1] = weight(5, 3)
    message = "the param groups have changed, and hold b where another .* 2 of the last step; use add_param_g"
    refused(optimizer.step, message)
    del optimizer.param_groups[0]["params"][1]
    refused(optimizer.step, "hold nothing where another parameter was")
    optimizer.param_groups[0]["params"] += [b, weight(3, 3)]
    with pytest.raises(ValueError, match=r"expected the 2 of the last step; use add_param_group"):
        optimizer.step()
    del optimizer.param_groups[0]["params"][2]
    optimizer.param_groups[0]["tau"] = -0.1
    refused(optimizer.step, "tau is -0.1")
    assert torch.equal(a, before)
    optimizer.param_groups[0]["tau"] = 0.1
    steps(optimizer, 1)
    assert not torch.equal(a, before)


def test_a_gradient_that_is_refused_leaves_everything_as_it_was():
    good, bad = weight(3, 3), weight(3, 3, seed=1)
    optimizer = AdamW2([("good", good), ("bad", bad)])
    before = good.detach().clone()
    good.grad, bad.grad = torch.ones(3, 3), torch.eye(3).to_sparse()
    refused(optimizer.step, "gradient of bad is sparse: expected a dense real one")
    assert torch.equal(good, before)
    assert not optimizer.state
