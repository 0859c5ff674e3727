"""Gradients of scores and of W_qᵀW_k, against autograd; the least entropy, against softmax."""

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.models import GPT, GPTConfig
from course_lib.probes import attention_gradients, entropy, entropy_floor, score_gap_limit
from course_lib.probes.spectrum import split_head_rows


def model_and_loss(**options):
    generator = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(vocab=11, context=8, d_model=16, heads=2, layers=2, **options), generator)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(5)  # at the start attention is uniform, and its gradients tiny
    ids = torch.randint(11, (3, 8), generator=generator)
    return model.double(), lambda: F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "relu2", "identity"])
def test_the_gradients_of_w_q_and_w_k_follow_from_that_of_their_product(kind):
    model, loss = model_and_loss(attention=kind)
    looks = attention_gradients(model, loss)
    assert all(p.grad is None for p in model.parameters())
    loss().backward()
    for look, block in zip(looks, model.blocks, strict=True):
        layer = block.attention
        assert look.attention is layer
        w_q, w_k = (split_head_rows(w.weight.detach(), layer.heads) for w in (layer.w_q, layer.w_k))
        by_hand = look.product
        for weight, gradient in ((layer.w_q, w_k @ by_hand.mT), (layer.w_k, w_q @ by_hand)):
            torch.testing.assert_close(gradient.flatten(0, 1), weight.weight.grad, rtol=1e-9, atol=1e-12)
            assert weight.weight.grad.abs().max() > 1e-9


@pytest.mark.parametrize("options", [{"attention": "uniform"}, {"attention": "focused"}, {"qk_norm": True}])
def test_attention_whose_scores_are_something_else_is_refused(options):
    model, loss = model_and_loss(**options)
    with pytest.raises(ValueError, match="expected scores that are XᵀW_qᵀW_kX"):
        attention_gradients(model, loss)


def test_hooks_are_removed_even_if_the_loss_fails():
    model, _ = model_and_loss()

    def broken():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        attention_gradients(model, broken)
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("gap", [0.0, 0.5, 2.0, 6.0])
def test_no_row_of_scores_within_the_gap_is_below_the_floor(gap):
    generator = torch.Generator().manual_seed(0)
    n = 9
    keys = torch.tensor(n)
    floor = entropy_floor(torch.tensor(gap, dtype=torch.float64), keys)
    scores = gap * torch.rand(4000, n, generator=generator, dtype=torch.float64)
    corners = gap * (torch.rand(4000, n, generator=generator) < 0.3)
    seen = torch.ones(1, n, dtype=torch.bool)
    h = entropy(torch.cat([scores, corners.double()]).softmax(-1), seen)
    # log n is taken in fp32, in both.
    assert (h >= floor - 1e-6).all()
    assert h.min().item() == pytest.approx(floor.item(), abs=1e-6)  # a corner reaches it


def test_a_query_with_one_key_has_no_floor_and_the_others_their_own():
    gap = torch.full((4,), 2.0)
    floor = entropy_floor(gap, torch.tensor([1, 2, 3, 9]))
    assert floor.isnan().tolist() == [True, False, False, False]
    assert floor[2].item() == pytest.approx(entropy_floor(gap[2], torch.tensor(3)).item())


def test_real_scores_lie_within_the_limit_that_sigma_sets():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 8, generator=generator)
    w_q, w_k = torch.randn(2, 3, 4, 8, generator=generator)
    product = w_q.mT @ w_k
    scores = torch.einsum("bid,hde,bje->bhij", x, product, x) / math.sqrt(4)
    limit = score_gap_limit(torch.linalg.matrix_norm(product, 2), x, head_dim=4)
    assert limit.shape == (2, 3, 6)
    for i in range(6):
        seen = scores[..., i, : i + 1]
        assert (seen.amax(-1) - seen.amin(-1) <= limit[..., i] + 1e-4).all()
    assert (limit[..., 0] == 0).all()


def test_the_limit_is_reached_where_everything_is_aligned():
    x = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    limit = score_gap_limit(torch.tensor([3.0]), x, head_dim=1)
    assert limit[0, 0].tolist() == [0.0, 6.0]  # scores 3 and −3
