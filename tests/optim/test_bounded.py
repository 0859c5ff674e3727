"""Which matrices are bounded: those inside the blocks, of our models and of others."""

import pytest
import torch
from torch import nn

from course_lib import GPT, GPTConfig, bounded_parameters
from course_lib.optim import BoundedMatrix


class Conv1D(nn.Module):
    """What transformers' Conv1D keeps: a weight (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))


class Block(nn.Module):
    """One of each kind that blocks are made of."""

    def __init__(self, d: int = 4) -> None:
        super().__init__()
        self.qkv = nn.Linear(d, 3 * d)
        self.c_attn = Conv1D(3 * d, d)
        self.c_fc = Conv1D(3 * d, d)  # as wide as q, k, v, and not fused
        self.kv = nn.Linear(d, 2 * d)
        self.query_key_value = nn.Linear(d, 3 * d)
        self.norm = nn.LayerNorm(d)
        self.conv = nn.Conv2d(d, 2 * d, 3)
        self.mlp = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, d))
        self.cls_token = nn.Parameter(torch.zeros(2, 2, d))
        self.layer_scale = nn.Parameter(torch.ones(d, 1, 1))
        self.symbols = nn.Embedding(5, d)
        self.pos_embed_proj = nn.Linear(d, d)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 2)
        self.positions = nn.Parameter(torch.zeros(1, 5, 4))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))


INSIDE = ["qkv", "c_attn", "c_fc", "kv", "query_key_value", "conv", "mlp.0", "mlp.2"]


def test_every_matrix_inside_the_blocks_and_nothing_else():
    found = bounded_parameters(Model())
    assert list(found) == [f"blocks.{i}.{name}.weight" for i in range(2) for name in INSIDE]
    assert found["blocks.1.conv.weight"].reason == "inside block blocks.1"


def test_fused_projections_are_cut_along_their_outputs():
    found = bounded_parameters(Model())
    cuts = {n.split(".")[2]: m.split for n, m in found.items() if n.startswith("blocks.0.")}
    assert cuts["qkv"] == (0, 3)
    assert cuts["c_attn"] == (1, 3)
    assert cuts["kv"] == (0, 2)
    for whole in ["c_fc", "query_key_value", "conv", "mlp"]:
        assert cuts[whole] == (0, 1), whole
    assert found["blocks.0.qkv.weight"].reason.endswith("fused q, k, v: each on its own")


def test_parts_are_views_and_matrices_have_two_dimensions():
    found = bounded_parameters(Model())
    weight = found["blocks.0.c_attn.weight"]
    tensor = weight.parameter.detach()
    q, k, v = weight.matrices(tensor)
    assert torch.equal(torch.cat([q, k, v], 1), tensor)
    k.zero_()
    assert (tensor[:, 4:8] == 0).all()
    assert (tensor[:, :4] != 0).all()
    conv = found["blocks.0.conv.weight"]
    (matrix,) = conv.matrices(conv.parameter)
    assert matrix.shape == (8, 4 * 3 * 3)
    channels_last = conv.parameter.detach().to(memory_format=torch.channels_last)
    conv.parts(channels_last)[0].zero_()
    assert (channels_last == 0).all()


def test_ours():
    model = GPT(GPTConfig(vocab=7, context=8, d_model=16, heads=2))
    found = bounded_parameters(model)
    assert len(found) == 2 * 6
    assert all(m.parameter is model.get_parameter(n) and m.split == (0, 1) for n, m in found.items())


def test_torch_transformers():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    found = bounded_parameters(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    assert len(found) == 2 * 4
    assert found["layers.1.self_attn.in_proj_weight"].split == (0, 3)
    assert found["layers.1.linear1.weight"].split == (0, 1)
    # Keys of another width: three weights, none of them fused.
    other = bounded_parameters(nn.ModuleList([nn.MultiheadAttention(4, 2, kdim=6)]))
    assert {n: m.split for n, m in other.items()} == dict.fromkeys(
        [f"0.{x}" for x in ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight")], (0, 1)
    )


def test_a_sequential_of_blocks_between_an_embedding_and_a_head():
    found = bounded_parameters(nn.Sequential(nn.Embedding(5, 4), Block(), nn.Linear(4, 5)))
    assert list(found) == [f"1.{name}.weight" for name in INSIDE]


def test_without_blocks_the_layers_but_the_last():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 5))
    found = bounded_parameters(model)
    assert list(found) == ["1.weight", "3.weight"]
    assert found["1.weight"].reason == "a layer of a model without blocks, and not its last"


def test_weights_tied_to_an_embedding_stay_free_wherever_they_stand():
    embedding, head = nn.Embedding(5, 4), nn.Linear(4, 5)
    head.weight = embedding.weight
    # The head's name comes first, and an element of a list stands in a block.
    first = nn.ModuleList(
        [nn.Sequential(head), nn.ModuleDict({"head": head, "up": nn.Linear(4, 4)}), embedding]
    )
    assert list(bounded_parameters(first)) == ["1.up.weight"]
    # Without blocks: the head is the last matrix, so what comes before it is a layer.
    assert list(bounded_parameters(nn.Sequential(embedding, nn.Linear(4, 4), head))) == ["1.weight"]


def test_a_weight_tied_to_an_embedding_can_be_asked_for_by_either_name():
    model = nn.ModuleDict({"symbols": nn.Embedding(5, 4), "head": nn.Linear(4, 5)})
    model["head"].weight = model["symbols"].weight
    (matrix,) = bounded_parameters(model, ["head.weight"]).values()
    assert matrix.parameter is model["symbols"].weight


def test_bags_of_embeddings_are_embeddings():
    model = nn.ModuleList([nn.ModuleDict({"bag": nn.EmbeddingBag(5, 4), "up": nn.Linear(4, 4)})])
    assert list(bounded_parameters(model)) == ["0.up.weight"]


def test_without_blocks_only_the_layers_of_lists_count():
    layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6))
    model = nn.ModuleDict({"stem": nn.Linear(3, 4), "layers": layers, "head": nn.Linear(6, 2)})
    assert list(bounded_parameters(model)) == ["layers.0.weight", "layers.2.weight"]


def test_a_block_may_be_made_of_matrices_alone():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.w_q, self.w_k = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(4, 4))

    found = bounded_parameters(nn.Sequential(Attention(), Block(), nn.Linear(4, 4)))
    assert list(found)[:2] == ["0.w_q", "0.w_k"]


def test_somebody_elses_conv1d_is_not_taken_for_a_transposed_one():
    class Conv1D(nn.Linear):
        """(out, in), unlike transformers'."""

    model = nn.ModuleList([nn.ModuleDict({"c_attn": Conv1D(4, 12), "c_proj": nn.Linear(4, 4)})])
    assert bounded_parameters(model)["0.c_attn.weight"].split == (0, 3)


def test_a_list_of_patch_embeddings_is_no_list_of_blocks():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj, self.norm = nn.Conv2d(3, 4, 2), nn.LayerNorm(4)

    model = nn.ModuleDict(
        {
            "patch_embeddings": nn.ModuleList([Patches()]),
            # Only what stands at the list or inside it says what it is.
            "embedder": nn.ModuleDict({"layers": nn.ModuleList([Block()])}),
        }
    )
    assert list(bounded_parameters(model)) == [f"embedder.layers.0.{name}.weight" for name in INSIDE]


def test_stages_and_stems_in_a_sequential_are_no_blocks_themselves():
    """As torchvision builds Swin and EfficientNet: a stem of layers, then stages of blocks."""
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU()), nn.Sequential(Block(), Block()), nn.Linear(4, 3)
    )
    assert list(bounded_parameters(model)) == [f"1.{i}.{name}.weight" for i in range(2) for name in INSIDE]


def test_a_list_inside_a_block_does_not_hide_the_rest_of_it():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.Linear(4, 4)
            self.experts = nn.ModuleList(Block() for _ in range(2))

    found = bounded_parameters(nn.ModuleList([Mixture()]))
    assert "0.attention.weight" in found
    assert len(found) == 1 + 2 * len(INSIDE)


def test_a_model_without_blocks_or_lists_has_none():
    assert bounded_parameters(nn.Linear(3, 3)) == {}


def test_names_replace_the_default():
    found = bounded_parameters(Model(), ["patch.weight", "blocks.0.qkv.weight"])
    assert list(found) == ["patch.weight", "blocks.0.qkv.weight"]
    assert found["blocks.0.qkv.weight"].split == (0, 3)
    assert found["patch.weight"].reason == "named by the caller"
    assert list(bounded_parameters(Model(), "patch.weight")) == ["patch.weight"]  # one, and not its letters


@pytest.mark.parametrize(("name", "parts"), [("qkv_proj", 3), ("to_qkv", 3), ("Wqkv", 3), ("to_kv", 2)])
def test_names_that_others_give_to_fused_projections(name, parts):
    model = nn.ModuleList([nn.ModuleDict({name: nn.Linear(4, 4 * parts), "out": nn.Linear(4, 4)})])
    assert bounded_parameters(model)[f"0.{name}.weight"].split == (0, parts)
    assert bounded_parameters(model)["0.out.weight"].split == (0, 1)


def test_a_matrix_by_hand():
    matrix = BoundedMatrix(nn.Parameter(torch.randn(6, 4)), (1, 2))
    assert [m.shape for m in matrix.matrices(matrix.parameter)] == [(6, 2), (6, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "model is 3: expected a torch.nn.Module"),
        ((Model(), ["patch.wieght"]), "name is 'patch.wieght': .*; did you mean 'patch.weight'"),
        (
            (Model(), ["x"]),
            "name is 'x': expected the name of a parameter of Model; try model.named_parameters",
        ),
        (
            (Model(), ["patch.bias"]),
            r"parameter 'patch.bias' has shape \(4,\): expected two or more dimensions",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        bounded_parameters(*arguments)
    assert "\n" not in str(error.value)
