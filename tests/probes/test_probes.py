"""Probes against closed forms and against torch.linalg.svdvals."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import course_lib
from course_lib import GPT, GPTConfig, Run
from course_lib.models import (
    Attention,
    FlattenSwin,
    Swin,
    SwinConfig,
    ViT,
    ViTConfig,
    attention_weights,
    visible_keys,
)
from course_lib.models.flatten_swin import FocusedAttention
from course_lib.probes import (
    AttentionSite,
    StepProbe,
    attention_maps,
    attention_rank,
    attention_sites,
    effective_rank,
    entropy,
    max_logit,
    observe,
    qk_singular_values,
    reference_rank,
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


def test_rows_of_widely_different_scales_are_measured():
    """Such as the steps that Adam makes of weights whose gradients all but vanished."""
    generator = torch.Generator().manual_seed(0)
    scales = 10 ** (-3 - 35 * torch.rand(1000, 32, 1, generator=generator))
    matrices = torch.randn(1000, 32, 32, generator=generator) * scales
    matrices[::2, ::2] = 0
    exact = torch.linalg.matrix_norm(matrices.double(), 2)
    torch.testing.assert_close(sigma_max(matrices).double(), exact, rtol=1e-5, atol=0)


def test_step_ratio_against_svd_with_and_without_decay():
    w = torch.nn.Parameter(torch.randn(12, 8))
    update = torch.randn(12, 8)
    probe = StepProbe({"w": w})
    before = w.detach().clone()
    with torch.no_grad():
        w.mul_(1 - 0.02).sub_(0.1 * update)
    expected = 0.1 * torch.linalg.svdvals(update)[0] / torch.linalg.svdvals(before)[0]
    measured = probe.measure({"w": 0.02})
    torch.testing.assert_close(measured["rho_applied"], expected[None], rtol=1e-4, atol=0)
    torch.testing.assert_close(measured["weight_sigma"], torch.linalg.svdvals(before)[:1], rtol=1e-4, atol=0)
    assert probe.measure()["rho_applied"] != measured["rho_applied"]


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


def test_reference_ranks():
    assert reference_rank(32, causal=True) == uniform_rank(32)
    assert reference_rank(48, causal=False) == 12
    assert reference_rank(48, causal=False, thin=16) == 4
    assert reference_rank(8, causal=False, thin=16) == 2


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 99))
def test_the_rank_of_a_sharp_map_is_at_most_the_number_of_keys_in_use(n, keys, seed):
    """What the reference for attention without a mask counts: one-hot rows, on at most so many keys."""
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randint(min(keys, n), (n,), generator=rng)
    in_use = len(chosen.unique())
    assert attention_rank(torch.eye(n)[chosen]).item() <= in_use * (1 + 1e-3)
    each = torch.arange(n) % in_use  # equally often
    if n % in_use == 0:
        assert attention_rank(torch.eye(n)[each]).item() == pytest.approx(in_use, rel=1e-3)


SWIN = {
    "n_classes": 3,
    "image_size": 16,
    "patch": 2,
    "d_model": 16,
    "heads": 2,
    "depths": (2, 2),
    "window": 4,
}
IMAGE_MODELS = {
    "vit": lambda **k: ViT(ViTConfig(n_classes=3, image_size=16, d_model=16, heads=2, layers=2, **k)),
    "swin": lambda **k: Swin(SwinConfig(**SWIN, **k)),
    "flatten-swin": lambda **k: FlattenSwin(
        SwinConfig(**{**SWIN, "window": None}, **{"attention": "focused", **k})
    ),
}
image_model = pytest.mark.parametrize("name", IMAGE_MODELS)


def mixed_by(model, images):
    """What each attention of a model has mixed, before W_o, and its values: (…, tokens, d_model) each."""
    mixed, values = [], []
    for module in model.modules():
        if isinstance(module, Attention):
            module.w_o.register_forward_pre_hook(lambda m, args: mixed.append(args[0]))
            module.w_v.register_forward_hook(lambda m, args, out: values.append(out))
    with torch.no_grad():
        model(images)
    return mixed, values


@image_model
def test_maps_of_models_of_images_are_those_that_they_mix_by(name):
    """Windows, masks, biases and linear attention included: the map, times the values, is what was mixed."""
    torch.manual_seed(0)
    model = IMAGE_MODELS[name]()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    for module in model.modules():
        if isinstance(module, FocusedAttention):  # the convolution stands beside the map
            torch.nn.init.zeros_(module.depthwise.weight)
    images = torch.randn(3, 1, 16, 16)
    sites = attention_sites(model)
    maps = attention_maps(model, sites, images)
    mixed, values = mixed_by(model, images)
    assert len(maps) == len(mixed) == len(model.tokens)
    for map_, out, v, site, tokens in zip(maps, mixed, values, sites, model.tokens, strict=True):
        assert map_.shape[1:] == (site.heads, tokens, tokens)
        by_head = v.flatten(0, -3).unflatten(-1, (site.heads, -1)).transpose(1, 2)
        again = (map_ @ by_head).transpose(1, 2).flatten(2)
        torch.testing.assert_close(again, out.flatten(0, -3), rtol=1e-4, atol=1e-4)


@image_model
def test_uniform_attention_has_entropy_one_windows_masks_included(name):
    model = IMAGE_MODELS[name](attention="uniform")
    seen = observe(model, attention_sites(model), torch.randn(3, 1, 16, 16)).quantities
    for h in seen["entropy"]:
        torch.testing.assert_close(h, torch.ones_like(h))
    ranks = [rank.mean().item() for rank in seen["attention_rank"]]
    # Four windows, shifted: one whole, two cut in two, one in four; a uniform map has a rank for each part.
    expected = [1, (1 + 2 + 2 + 4) / 4, 1, 1] if name == "swin" else [1] * len(ranks)
    assert ranks == pytest.approx(expected, rel=2e-3)


def test_a_focused_map_is_a_distribution_of_the_rank_of_its_factors():
    torch.manual_seed(0)
    model = IMAGE_MODELS["flatten-swin"]()
    images = torch.randn(2, 1, 16, 16)
    sites = attention_sites(model)
    for map_ in attention_maps(model, sites, images):
        assert (map_ >= 0).all()
        torch.testing.assert_close(map_.sum(-1), torch.ones_like(map_.sum(-1)))
    seen = observe(model, sites, images).quantities
    for h, rank in zip(seen["entropy"], seen["attention_rank"], strict=True):
        assert ((h > 0) & (h <= 1)).all()
        assert (rank <= 8 + 1e-3).all()  # the width of a head


def test_a_focused_query_without_a_score_has_no_entropy():
    """Its weights are no distribution; the other queries' mean stands."""
    model = ViT(ViTConfig(n_classes=3, image_size=8, d_model=4, heads=1, layers=1, attention="focused"))
    with torch.no_grad():
        model.blocks[0].attention.w_q.weight.fill_(0)
    seen = observe(model, attention_sites(model), torch.randn(2, 1, 8, 8)).quantities
    assert seen["entropy"][0].isnan().all()
    assert seen["attention_rank"][0].item() == 0
