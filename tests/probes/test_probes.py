"""Probes against closed forms and against torch.linalg.svdvals."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import course_lib
from course_lib import GPT, GPTConfig, Run
from course_lib.models import attention_weights, visible_keys
from course_lib.probes import (
    AttentionSite,
    StepProbe,
    attention_rank,
    attention_sites,
    effective_rank,
    entropy,
    max_logit,
    observe,
    qk_singular_values,
    sigma_max,
    spectral_energy_concentration,
    stable_rank,
    uniform_rank,
)

FP32 = 1e-5  # relative; a few hundred roundings of fp32
sizes = st.integers(2, 40)


def causal(n):
    return visible_keys(n, n, True, torch.device("cpu"))


@given(sizes)
def test_entropy_of_uniform_causal_attention_is_one(n):
    a = causal(n) / causal(n).sum(-1, keepdim=True)
    h = entropy(a, causal(n))
    assert math.isnan(h[0])  # a query that sees one key has no choice to make
    torch.testing.assert_close(h[1:], torch.ones(n - 1), rtol=FP32, atol=0)


@given(sizes)
def test_entropy_of_one_hot_attention_is_zero(n):
    assert entropy(torch.eye(n), causal(n))[1:].abs().max() == 0


@given(sizes, st.floats(0.01, 10))
def test_entropy_is_between_its_bounds_and_falls_with_sharper_scores(n, scale):
    logits = torch.randn(n, n, generator=torch.Generator().manual_seed(n))
    soft = entropy(attention_weights(scale * logits, causal(n), "softmax"), causal(n))[1:]
    sharp = entropy(attention_weights(2 * scale * logits, causal(n), "softmax"), causal(n))[1:]
    assert soft.min() >= 0
    assert soft.max() <= 1 + FP32
    assert (sharp <= soft + FP32).all()


@given(sizes)
def test_rank_of_identity_is_full_and_of_one_shared_key_is_one(n):
    sink = torch.zeros(n, n)
    sink[:, 0] = 1
    assert attention_rank(torch.eye(n)).item() == pytest.approx(n, rel=FP32)
    assert attention_rank(sink).item() == pytest.approx(1, rel=1e-4)  # σ₂ is rounding, not zero


def test_rank_of_uniform_attention():
    # Measured in double precision; the scale that every map of the course is quoted on.
    assert uniform_rank(32) == pytest.approx(13.6019, abs=1e-4)
    assert uniform_rank(64) == pytest.approx(21.0641, abs=1e-4)
    assert uniform_rank(64, causal=False) == pytest.approx(1)


@given(sizes, sizes)
def test_effective_rank_of_equal_singular_values_is_their_number(n, scale):
    assert effective_rank(torch.full((n,), float(scale))).item() == pytest.approx(n, rel=FP32)


def test_a_map_of_zeros_has_rank_zero():
    assert attention_rank(torch.zeros(4, 4)).item() == 0


def test_a_map_that_is_not_finite_has_no_rank():
    maps = torch.stack([torch.eye(4), torch.full((4, 4), torch.nan)])
    ranks = attention_rank(maps)
    assert ranks[0].item() == pytest.approx(4)
    assert math.isnan(ranks[1])


def test_max_logit_ignores_keys_that_are_not_visible():
    logits = torch.tensor([[1.0, 9.0], [2.0, 3.0]])
    assert max_logit(logits, causal(2)).item() == 3


@given(st.integers(1, 12), st.integers(1, 24), st.integers(0, 99))
def test_spectrum_of_the_qk_product_from_its_thin_factors(head_dim, d_model, seed):
    g = torch.Generator().manual_seed(seed)
    w_q, w_k = torch.randn(2, head_dim, d_model, generator=g)
    thin = qk_singular_values(w_q, w_k)
    full = torch.linalg.svdvals((w_q.mT @ w_k).double())[: len(thin)]
    torch.testing.assert_close(thin.double(), full, rtol=1e-4, atol=1e-5 * full[0].item())
    sec = spectral_energy_concentration(thin, 1).item()
    assert sec == pytest.approx((full[0] ** 2 / (full**2).sum()).item(), rel=1e-4)
    assert stable_rank(thin).item() == pytest.approx(1 / sec, rel=FP32)


def test_spectrum_of_weights_that_are_not_finite_is_nan():
    w = torch.randn(2, 3, 8)
    w[1] = torch.inf
    values = qk_singular_values(w, w)
    assert values[0].isfinite().all()
    assert values[1].isnan().all()


@given(st.integers(1, 30), st.integers(1, 30), st.floats(1e-8, 1e8), st.integers(0, 99))
def test_sigma_max_is_the_largest_singular_value(m, n, scale, seed):
    matrix = scale * torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
    exact = torch.linalg.svdvals(matrix.double())[0].item()
    # The Gram matrix squares the scale, so rounding is that of a sum of max(m, n) squares.
    assert sigma_max(matrix).item() == pytest.approx(exact, rel=1e-4)


def test_step_ratio_against_svd_with_and_without_decay():
    w = torch.nn.Parameter(torch.randn(12, 8))
    update = torch.randn(12, 8)
    probe = StepProbe({"w": w})
    before = w.detach().clone()
    with torch.no_grad():
        w.mul_(1 - 0.02).sub_(0.1 * update)
    expected = 0.1 * torch.linalg.svdvals(update)[0] / torch.linalg.svdvals(before)[0]
    measured = probe.measure({"w": 0.02})
    torch.testing.assert_close(measured["sigma_ratio"], expected[None], rtol=1e-4, atol=0)
    torch.testing.assert_close(measured["weight_sigma"], torch.linalg.svdvals(before)[:1], rtol=1e-4, atol=0)
    assert probe.measure()["sigma_ratio"] != measured["sigma_ratio"]


def test_observing_leaves_the_model_as_it_was():
    model = GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    observe(model, attention_sites(model), torch.zeros(2, 8, dtype=torch.long))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_hooks_are_removed_when_the_model_fails():
    model = GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2))
    with pytest.raises(ValueError, match="expected at most 8"):
        observe(model, attention_sites(model), torch.zeros(2, 9, dtype=torch.long))
    assert not any(m._forward_hooks for m in model.modules())


def test_what_is_observed_is_what_the_fused_kernel_computes(generator):
    """The map, rebuilt from the hooks, gives the output that the fused kernel gave."""
    model = GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2, layers=1), generator)
    attention = model.blocks[0].attention
    torch.nn.init.normal_(attention.w_q.weight, generator=generator)
    ids = torch.randint(7, (3, 8), generator=generator)
    seen = observe(model, attention_sites(model), ids)
    x = model.blocks[0].norm_attention(model.token_embedding(ids) + model.position_embedding.weight)
    v = attention.split_heads(attention.w_v(x))
    by_hand = attention.w_o((seen.maps[0] @ v[0]).transpose(0, 1).flatten(1))
    torch.testing.assert_close(by_hand, attention(x)[0], rtol=1e-4, atol=1e-5)


def test_a_model_that_is_not_ours_is_observed_by_the_names_of_its_projections():
    torch.manual_seed(0)
    layer = torch.nn.ModuleDict({"q": torch.nn.Linear(16, 16, bias=False), "k": torch.nn.Linear(16, 16)})
    layer.forward = lambda x: layer["k"](layer["q"](x))
    site = AttentionSite("q", "k", "q.weight", "k.weight", heads=4, causal=False)
    seen = observe(layer, [site], torch.randn(2, 5, 16)).quantities
    assert seen["entropy"][0].shape == (4,)
    full = torch.linalg.svdvals(layer["q"].weight[:4].mT @ layer["k"].weight[:4])
    torch.testing.assert_close(seen["qk_sigma"][0][0], full[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["sigmoid", "relu2", "identity"])
def test_attention_that_is_no_distribution_has_no_entropy_but_a_rank(kind, tiny):
    run = Run(course_lib.preset("copy", attention=kind, **tiny))
    record = run.step()
    assert torch.tensor(record.probes["entropy"]).isnan().all()
    assert torch.tensor(record.probes["attention_rank"]).isfinite().all()
