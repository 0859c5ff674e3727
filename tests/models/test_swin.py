"""Swin and Flatten-Swin: windows, their shift, their bias, and attention without a softmax."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.models import GROUPS, Attention, FlattenSwin, Swin, SwinConfig, parameter_groups
from course_lib.models.attention import RelativePositionBias, attention_logits, focus, linear_attention
from course_lib.models.flatten_swin import FocusedAttention
from course_lib.models.swin import PatchMerging, from_windows, shifted_mask, to_windows

SMALL = {
    "n_classes": 5,
    "image_size": 16,
    "channels": 2,
    "patch": 2,
    "d_model": 16,
    "heads": 2,
    "depths": (2, 2),
}
SWIN = {**SMALL, "window": 4}
FLATTEN = {**SMALL, "window": None, "attention": "focused"}
MODELS = [(Swin, SWIN), (FlattenSwin, FLATTEN)]
each_model = pytest.mark.parametrize(("model", "sizes"), MODELS)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_windows_and_back(batch, window, tiles, width):
    x = torch.randn(batch, window * tiles, window * tiles, width)
    windows = to_windows(x, window)
    assert windows.shape == (batch, tiles**2, window**2, width)
    assert torch.equal(from_windows(windows, window, window * tiles), x)
    assert torch.equal(windows[:, 0, -1], x[:, window - 1, window - 1])  # by rows, from the upper left


def moved_by(model, block, image):
    """Which places of a block's input each place of its output depends on: bool (H, W, H, W)."""
    x = model.embed(image).detach().requires_grad_()
    out = model.blocks[block].attend(model.blocks[block].norm_attention(x))
    side = x.shape[1]
    rows = [
        torch.autograd.grad(out[0, i, j].sum(), x, retain_graph=True)[0][0].abs().sum(-1) > 0
        for i in range(side)
        for j in range(side)
    ]
    return torch.stack(rows).view(side, side, side, side)


def by_hand(side, window, shift):
    """Which places see each other: those in one window of the shifted grid, which ends at the border."""
    place = (torch.arange(side) - shift).div(window, rounding_mode="floor")
    same = place[:, None] == place
    return same[:, None, :, None] & same[None, :, None, :]


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "uniform"])
@pytest.mark.parametrize(("block", "shift"), [(0, 0), (1, 2)])
def test_a_query_sees_its_window_and_a_shifted_one_never_across_the_border(kind, block, shift, generator):
    model = Swin(SwinConfig(**SWIN, attention=kind), generator)
    image = torch.randn(1, 2, 16, 16, generator=generator)
    assert torch.equal(moved_by(model, block, image), by_hand(8, 4, shift))


def test_where_one_window_covers_the_map_nothing_is_shifted():
    model = Swin(SwinConfig(**SWIN))
    assert [block.shift for block in model.blocks] == [0, 2, 0, 0]
    assert [block.mask is None for block in model.blocks] == [True, False, True, True]


def test_a_mask_by_hand():
    """A map of 4² rolled by 1: the last window's four places come from the four corners."""
    mask = shifted_mask(4, 2, 1)
    assert mask.shape == (4, 4, 4)
    assert mask[0].all()
    assert mask[1].tolist() == [[True, False] * 2, [False, True] * 2] * 2
    assert torch.equal(mask[3], torch.eye(4, dtype=torch.bool))


def test_a_bias_belongs_to_an_offset():
    bias = RelativePositionBias(2, 3)
    assert bias.table.weight.shape == (25, 2)
    values = bias().view(2, 3, 3, 3, 3)  # head, row and column of the query, of the key
    for (di, dj), number in {(0, 0): 9, (1, 0): 6, (2, -2): 1, (0, 1): 6}.items():
        offsets = [
            values[:, i, j, i - di, j - dj]
            for i in range(3)
            for j in range(3)
            if 0 <= i - di < 3 and 0 <= j - dj < 3
        ]
        assert len(offsets) == number
        assert all(torch.equal(o, offsets[0]) for o in offsets)
    assert len(bias()[0].unique()) == 25


@pytest.mark.parametrize("masked", [False, True])
def test_fused_kernel_and_written_out_attention_agree_in_windows(masked, generator):
    layer = Attention(16, 2, causal=False, window=4)
    x = torch.randn(3, 4, 16, 16, generator=generator)  # 4 windows of 4²
    mask = shifted_mask(8, 4, 2) if masked else None
    q, k = layer.queries_and_keys(x)
    v = layer.split_heads(layer.w_v(x))
    map_ = layer.attention(q, k, mask)[1]
    assert map_.shape == (3, 4, 2, 16, 16)
    by_hand = layer.w_o((map_ @ v).transpose(-3, -2).flatten(-2))
    torch.testing.assert_close(layer(x, mask), by_hand, rtol=1e-4, atol=1e-6)
    # What an accelerator would do.
    by_kernel = layer._by_kernel(q, k, v, layer._added(q, mask))
    torch.testing.assert_close(by_kernel, map_ @ v, rtol=1e-4, atol=1e-6)
    # Each window on its own: what happens in one moves no other.
    other = x.clone()
    other[:, 1] += 1
    moved = (layer(other, mask) != layer(x, mask)).any(-1).any(-1)
    assert moved.tolist() == [[False, True, False, False]] * 3


def test_four_neighbours_become_one_token():
    merging = PatchMerging(1)
    with torch.no_grad():
        merging.reduction.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]]))
    x = torch.arange(16.0).view(1, 4, 4, 1)
    four = torch.tensor([0.0, 4, 1, 5])  # of the upper left; all squares differ from it by a constant
    normal = (four - four.mean()) / (four.var(correction=0) + 1e-5).sqrt()
    expected = normal[[0, 3]].expand(1, 2, 2, 2)
    torch.testing.assert_close(merging(x), expected)


@each_model
def test_every_pixel_counts(model, sizes, generator):
    net = model(SwinConfig(**sizes), generator)
    images = torch.randn(3, 2, 16, 16, generator=generator, requires_grad=True)
    logits = net(images)
    assert logits.shape == (3, 5)
    (gradient,) = torch.autograd.grad(logits[1, 0], images)
    assert (gradient[1] != 0).all()
    assert (gradient[[0, 2]] == 0).all()


@each_model
def test_widths_heads_and_tokens_of_the_stages(model, sizes):
    net = model(SwinConfig(**sizes))
    assert [block.attention.heads for block in net.blocks] == [2, 2, 4, 4]
    assert [block.norm_attention.weight.numel() for block in net.blocks] == [16, 16, 32, 32]
    assert net.tokens == ((16,) * 4 if model is Swin else (64, 64, 16, 16))


@each_model
def test_every_parameter_belongs_to_a_group(model, sizes):
    net = model(SwinConfig(**sizes, qk_norm=True, stem="conv"))
    groups = parameter_groups(net)
    assert tuple(groups) == GROUPS
    assert sum(len(members) for members in groups.values()) == len(list(net.parameters()))
    assert "blocks.2.merging.reduction.weight" in groups["mlp"]
    assert "blocks.2.merging.norm.weight" in groups["norm"]
    assert all(p.ndim == 1 for p in groups["norm"].values())
    table, conv = "blocks.0.attention.position_bias.table.weight", "blocks.0.attention.depthwise.weight"
    assert (table in groups["embedding"]) == (model is Swin)
    assert (conv in groups["vo"]) == (model is FlattenSwin)


vectors = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8)


@given(vectors)
def test_the_focusing_function_keeps_the_length_and_turns_to_the_largest_component(values):
    """φ(x) = ‖r‖ r³/‖r³‖ with r = ReLU(x), in double precision."""
    x = torch.tensor(values)
    r = x.double().relu()
    cube = r**3
    exact = cube * (r.norm() / cube.norm()) if cube.norm() > 0 else torch.zeros_like(r)
    torch.testing.assert_close(focus(x).double(), exact, rtol=1e-4, atol=1e-4 * r.norm().item() + 1e-6)


@given(vectors, st.integers(-12, 12))
def test_a_vector_n_times_as_long_is_focused_to_one_n_times_as_long(values, exponent):
    """Also where a cube would be lost to rounding, or overflow."""
    x = torch.tensor(values)
    x = x / x.abs().max().clamp(min=1)
    scale = 2.0**exponent
    torch.testing.assert_close(focus(scale * x), scale * focus(x), rtol=1e-4, atol=1e-5 * scale)


def test_the_focusing_functions_gradient():
    x = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(focus, x)
    zero = torch.full((4,), -1.0, requires_grad=True)
    focus(zero).sum().backward()
    assert zero.grad.isfinite().all()


def test_focusing_brings_near_directions_nearer_and_parts_far_ones():
    near = torch.tensor([[1.0, 0.2, 0.0], [0.9, 0.3, 0.0]])
    far = torch.tensor([[1.0, 0.2, 0.0], [0.2, 1.0, 0.0]])

    def cosine(pair):
        return torch.cosine_similarity(pair[0], pair[1], dim=0)

    assert cosine(focus(near)) > cosine(near)
    assert cosine(focus(far)) < cosine(far)


def test_linear_attention_is_the_map_that_it_implies(generator):
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=generator)
    scores = attention_logits(q, k, "focused")
    assert (scores >= 0).all()
    map_ = scores / scores.sum(-1, keepdim=True)
    torch.testing.assert_close(linear_attention(q, k, v), map_ @ v, rtol=1e-4, atol=1e-5)
    # Its rank is that of its factors, however many tokens there are.
    assert torch.linalg.matrix_rank(attention_logits(q.repeat(1, 1, 4, 1), k, "focused")).max() <= 8


def test_a_query_without_a_positive_component_mixes_nothing():
    q, k = -torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4)
    assert torch.equal(linear_attention(q, k, torch.ones_like(k)), torch.zeros_like(k))


def test_the_convolution_beside_linear_attention(generator):
    """Where queries mix nothing, a token is made of its neighbours' values, channel by channel, alone."""
    layer = FocusedAttention(8, 2, side=6, kind="focused", qk_norm=False)
    v = torch.randn(1, 2, 36, 4, generator=generator, requires_grad=True)
    none = -torch.ones_like(v)
    out = layer.mix(none, none, v)
    row, column, head, part = 2, 3, 1, 2
    (gradient,) = torch.autograd.grad(out[0, head, 6 * row + column, part], v)
    seen = gradient[0, head, :, part].view(6, 6)
    assert (gradient != 0).sum() == (seen != 0).sum() == 5 * 5
    kernel = layer.depthwise.weight[4 * head + part, 0]
    torch.testing.assert_close(seen[0:5, 1:6], kernel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"window": 3},
            "window is 3: expected a divisor of the side of every stage's map, 8 and 4 tokens; try 4",
        ),
        ({"window": 8}, "window is 8: .*; try 4"),
        ({"depths": (2, 2, 2, 2, 2)}, "expected at most 4 stages, a map of 1 × 1 tokens has no half"),
        (
            {"image_size": 12, "depths": (1, 1, 1)},
            r"depths is \(1, 1, 1\): expected at most 2 stages.*try \(1, 1\)",
        ),
        ({"depths": ()}, r"depths is \(\): expected the blocks of each stage, such as \(2, 4\)"),
        ({"depths": 4}, "depths is 4: expected the blocks of each stage"),
        ({"depths": (2, 0)}, r"depths\[1\] is 0: expected a whole number of at least 1"),
        ({"patch": 3}, r"patch is 3: expected a divisor of the image's side \(16\); try 4"),
        ({"heads": 3}, r"heads is 3: expected a divisor of d_model \(16\)"),
        ({"attention": "focused"}, "attention is 'focused': .*; try model='flatten-swin'"),
        ({"window": None}, "window is None"),
    ],
)
def test_bad_sizes(change, message):
    with pytest.raises(ValueError, match=message) as error:
        Swin(SwinConfig(**{**SWIN, **change}))
    assert "\n" not in str(error.value)


def test_flatten_swin_adds_its_positions_to_the_tokens():
    model = FlattenSwin(SwinConfig(n_classes=3, image_size=8, patch=2, window=None, attention="focused"))
    with torch.no_grad():
        tokens = model.embed(torch.zeros(1, 1, 8, 8))  # a black image's tokens are alike, and zero
    assert torch.equal(tokens.flatten(0, 2), model.position_embedding.weight)
    assert model.position_embedding.weight.std().item() == pytest.approx(0.02, rel=0.2)
