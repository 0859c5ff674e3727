"""The GPT and its attention module."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib import GPT, GPTConfig
from course_lib.models import (
    ATTENTION_KINDS,
    GROUPS,
    Attention,
    attention_logits,
    attention_weights,
    generate,
    group_of,
    parameter_groups,
    visible_keys,
)

SMALL = {"vocab": 11, "context": 8, "d_model": 16, "heads": 2, "layers": 2}


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_no_symbol_sees_what_comes_after_it(kind, norm, qk_norm, generator):
    config = GPTConfig(**SMALL, attention=kind, norm=norm, qk_norm=qk_norm)
    model = GPT(config, generator)
    ids = torch.randint(11, (2, 8), generator=generator)
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 11
    a, b = model(ids), model(other)
    torch.testing.assert_close(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:])


def test_fused_kernel_and_written_out_attention_agree(generator):
    layer = Attention(16, 2)
    x = torch.randn(3, 8, 16, generator=generator)
    q, k = layer.queries_and_keys(x)
    v = layer.split_heads(layer.w_v(x))
    by_hand = layer.w_o((layer.attention(q, k)[1] @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), by_hand, rtol=1e-4, atol=1e-6)


@given(st.integers(1, 12), st.sampled_from(["softmax", "uniform"]))
def test_rows_of_a_distribution_sum_to_one_over_visible_keys(n, kind):
    visible = visible_keys(n, n, True, torch.device("cpu"))
    a = attention_weights(torch.randn(n, n), visible, kind)
    torch.testing.assert_close(a.sum(-1), torch.ones(n))
    assert (a[~visible] == 0).all()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("sigmoid", 1 / (1 + 2 * math.exp(-3))), ("relu2", 4.5), ("identity", 1.5), ("uniform", 0.5)],
)
def test_kinds_by_hand(kind, expected):
    """A query with two visible keys and score 3 on the second."""
    logits = torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    visible = visible_keys(2, 2, True, torch.device("cpu"))
    assert attention_weights(logits, visible, kind)[1, 1].item() == pytest.approx(expected)


def test_logits_carry_the_root_of_head_dim():
    q = torch.ones(1, 4)
    assert attention_logits(q, q).item() == 2


def test_qk_norm_makes_scores_independent_of_the_scale_of_w_q(generator):
    layer = Attention(16, 2, qk_norm=True)
    x = torch.randn(1, 4, 16, generator=generator)
    before = attention_logits(*layer.queries_and_keys(x))
    with torch.no_grad():
        layer.w_q.weight.mul_(100)
    after = attention_logits(*layer.queries_and_keys(x))
    # ε inside LayerNorm weighs less after scaling, hence not equal to the last digit
    torch.testing.assert_close(before, after, rtol=1e-2, atol=1e-3)


def test_a_seed_means_the_same_weights():
    a, b, c = (GPT(GPTConfig(**SMALL), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.head.weight, c.head.weight)


def test_initial_spread_of_weights():
    model = GPT(GPTConfig(vocab=62, d_model=128, layers=2), torch.Generator().manual_seed(0))
    block = model.blocks[0]
    assert block.attention.w_q.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.attention.w_o.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert block.mlp.w_out.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_every_parameter_belongs_to_a_group():
    model = GPT(GPTConfig(**SMALL, qk_norm=True))
    groups = parameter_groups(model)
    assert tuple(groups) == GROUPS
    assert sum(len(members) for members in groups.values()) == len(list(model.parameters()))
    assert set(groups["qk"]) == {f"blocks.{i}.attention.w_{x}.weight" for i in (0, 1) for x in "qk"}
    assert all(p.ndim == 1 for p in groups["norm"].values())


def test_an_unknown_parameter_has_no_group():
    with pytest.raises(ValueError, match="'conv.weight' belongs to no group"):
        group_of("conv.weight")


def test_generated_text_repeats_and_depends_on_temperature():
    model = GPT(GPTConfig(**SMALL), torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.head.weight.mul_(100)
    start = torch.zeros(1, 1, dtype=torch.long)
    a = generate(model, start, 40, context=8, seed=3)
    assert a.shape == (1, 41)
    assert torch.equal(a, generate(model, start, 40, context=8, seed=3))
    assert not torch.equal(a, generate(model, start, 40, context=8, seed=3, temperature=100.0))


def test_a_broken_model_still_writes():
    model = GPT(GPTConfig(**SMALL))
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    ids = generate(model, torch.zeros(1, 1, dtype=torch.long), 50, context=8)
    assert len(ids.unique()) > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, r"heads is 3: expected a divisor of d_model \(16\); try 4"),
        ({"norm": "sandwich"}, "norm is 'sandwich': expected one of pre, post"),
        ({"attention": "softmx"}, "did you mean 'softmax'"),
        ({"layers": 0}, "layers is 0: expected a whole number of at least 1"),
        ({"context": 2.5}, "context is 2.5"),
        ({"qk_norm": "yes"}, "qk_norm is 'yes': expected True or False"),
    ],
)
def test_bad_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        GPT(GPTConfig(**{**SMALL, **change}))


def test_input_longer_than_the_context():
    with pytest.raises(ValueError, match="input is 9 symbols long: expected at most 8"):
        GPT(GPTConfig(**SMALL))(torch.zeros(1, 9, dtype=torch.long))
