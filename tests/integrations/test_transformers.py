"""Models of `transformers`, built from a config: bounded, trained, and observed as they see themselves."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from course_lib.optim import SpectralBound, bounded_parameters
from course_lib.probes import HEAD_QUANTITIES, attention_maps, attention_sites, observe

transformers = pytest.importorskip("transformers", reason="needs the extra [integrations]")

TAU = 0.05
STEPS = 50


def gpt2(**options):
    sizes = {"vocab_size": 11, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(
        **sizes, bos_token_id=0, eos_token_id=0, attn_implementation="eager", **options
    )
    ids = torch.randint(11, (8, 16))
    return transformers.GPT2LMHeadModel(config), ids, {"labels": ids}


def vit(**options):
    config = transformers.ViTConfig(
        image_size=16,
        patch_size=4,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=3,
        attn_implementation="eager",
        **options,
    )
    images = torch.randn(8, 3, 16, 16)
    return transformers.ViTForImageClassification(config), images, {"labels": torch.arange(8) % 3}


def swin(**options):
    # Windows of 4² patches on 16² and then 8², so that every second block shifts them and needs a mask.
    config = transformers.SwinConfig(
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        num_labels=3,
        attn_implementation="eager",
        **options,
    )
    images = torch.randn(8, 3, 32, 32)
    return transformers.SwinForImageClassification(config), images, {"labels": torch.arange(8) % 3}


each_model = pytest.mark.parametrize("build", [gpt2, vit, swin])


@pytest.fixture(autouse=True)
def same_weights_every_time():
    torch.manual_seed(0)


def far_from_uniform(model):
    """Weights large enough that every part of the scores shows in the maps, biases and tables included."""
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)


@each_model
def test_it_learns_under_the_bound_and_is_observed(build):
    model, inputs, targets = build()
    optimizer = SpectralBound(torch.optim.AdamW(model.parameters(), lr=1e-2), TAU, model=model)
    bounded = bounded_parameters(model)
    sites = attention_sites(model)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(inputs, **targets).loss
        loss.backward()
        before = {name: b.parameter.detach().clone() for name, b in bounded.items()}
        optimizer.step()
        losses.append(loss.item())
        if step % 10 == 0:
            seen = observe(model, sites, inputs).quantities
            assert all(values.isfinite().all() for name in HEAD_QUANTITIES for values in seen[name])
            for name, b in bounded.items():
                pairs = zip(b.matrices(before[name]), b.matrices(b.parameter.detach()), strict=True)
                for old, new in pairs:
                    allowed = 1.1 * TAU * torch.linalg.svdvals(old)[0]  # as in tests/optim/test_bound.py
                    assert torch.linalg.svdvals(new - old)[0] <= allowed, name
    assert all(torch.tensor(losses).isfinite())
    assert losses[-1] < 0.9 * losses[0]
    assert set(optimizer.last_step) == set(bounded)


@each_model
def test_the_maps_are_those_that_the_model_itself_returns(build):
    model, inputs, _ = build()
    far_from_uniform(model)
    maps = attention_maps(model, attention_sites(model), inputs)
    with torch.no_grad():
        theirs = model.eval()(inputs, output_attentions=True).attentions
    if build is swin:  # returns those of each stage's last block
        maps = maps[1::2]
    assert len(maps) == len(theirs) == 2
    for ours, reference in zip(maps, theirs, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)


def test_swins_other_blocks_are_seen_too():
    """Those whose windows are not shifted, which `output_attentions` leaves out."""
    model, inputs, _ = swin()
    far_from_uniform(model)
    returned = {}
    for i, stage in enumerate(model.swin.encoder.layers):
        stage.blocks[0].attention.register_forward_hook(
            lambda module, args, output, i=i: returned.update({i: output[1]})
        )
    maps = attention_maps(model, attention_sites(model), inputs)[0::2]
    for i, ours in enumerate(maps):
        torch.testing.assert_close(ours, returned[i], rtol=0, atol=1e-5)


@each_model
def test_entropy_counts_the_keys_that_are_visible(build):
    """With W_q of zeros and no bias, attention is uniform over what is visible: windows' masks included."""
    model, inputs, _ = build()
    for name, p in model.named_parameters():
        if "c_attn" in name or "q_proj" in name or "bias" in name:
            nn.init.zeros_(p)
    for values in observe(model, attention_sites(model), inputs).quantities["entropy"]:
        torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-5, atol=0)


def test_the_spectrum_of_a_fused_transposed_projection():
    model, inputs, _ = gpt2()
    far_from_uniform(model)
    seen = observe(model, attention_sites(model), inputs).quantities["qk_sigma"]
    w = model.transformer.h[1].attn.c_attn.weight  # (16, 3 · 16), two heads of 8
    for head in range(2):
        rows = slice(8 * head, 8 * head + 8)
        w_q, w_k = w[:, :16].T[rows], w[:, 16:32].T[rows]
        exact = torch.linalg.svdvals(w_q.T @ w_k)[0]
        torch.testing.assert_close(seen[1][head], exact, rtol=1e-4, atol=0)


@each_model
def test_looking_leaves_the_model_as_it_was_dropout_and_its_dice_included(build):
    dropouts = {gpt2: "resid_pdrop", vit: "hidden_dropout_prob", swin: "hidden_dropout_prob"}
    model, inputs, _ = build(**{dropouts[build]: 0.5})
    model.train()
    still = next(module for module in model.modules() if isinstance(module, nn.LayerNorm))
    still.eval()
    dice = torch.get_rng_state()
    first, second = (observe(model, attention_sites(model), inputs).maps for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), dice)
    assert [m for m in model.modules() if not m.training] == [still]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_which_matrices_of_gpt2_are_bounded():
    model, _, _ = gpt2()
    bounded = bounded_parameters(model)
    assert len(bounded) == 2 * 4
    assert all(name.startswith("transformer.h.") for name in bounded)
    assert {n.split(".", 3)[3]: m.split for n, m in bounded.items()} == {
        "attn.c_attn.weight": (1, 3),
        "attn.c_proj.weight": (0, 1),
        "mlp.c_fc.weight": (0, 1),
        "mlp.c_proj.weight": (0, 1),
    }


def test_a_feed_forward_three_times_as_wide_is_not_taken_for_q_k_v():
    model, _, _ = gpt2(n_inner=48)
    assert bounded_parameters(model)["transformer.h.0.mlp.c_fc.weight"].split == (0, 1)


def test_which_matrices_of_vit_and_swin_are_bounded():
    model, _, _ = vit()
    assert len(bounded_parameters(model)) == 2 * 6
    assert not any("embed" in n or "classifier" in n or "token" in n for n in bounded_parameters(model))
    names = set(bounded_parameters(swin()[0]))
    assert len(names) == 4 * 6 + 1
    assert "swin.encoder.layers.0.downsample.reduction.weight" in names  # inside a stage: see the docstring
    assert not any("relative_position" in n or "embed" in n or "classifier" in n for n in names)


def test_a_scale_that_is_not_the_usual_one_is_refused():
    model, _, _ = gpt2(scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(
        ValueError, match=r"transformer.h.1.attn scales its scores by 0.177: expected 1/√head"
    ):
        attention_sites(model)


def test_cross_attention_is_no_site():
    model, _, _ = gpt2(add_cross_attention=True)
    assert [site.queries for site in attention_sites(model)] == [
        f"transformer.h.{i}.attn.c_attn" for i in range(2)
    ]
    assert bounded_parameters(model)["transformer.h.0.crossattention.c_attn.weight"].split == (1, 2)


def test_an_attention_that_is_not_known_is_asked_for_in_one_line():
    model = nn.TransformerEncoderLayer(8, 2)
    with pytest.raises(ValueError, match="TransformerEncoderLayer has no attention that is known") as error:
        attention_sites(model)
    assert "\n" not in str(error.value)
    assert "AttentionSite(" in str(error.value)


def test_a_layout_of_another_version_is_refused_in_one_line():
    class ViTAttention(nn.Module):
        """As transformers 4 had it: a wrapper."""

    with pytest.raises(ValueError, match=r"0 \(ViTAttention\) has no q_proj: expected transformers 5.10"):
        attention_sites(nn.Sequential(ViTAttention()))


@pytest.mark.slow
def test_course_lib_does_not_import_transformers():
    program = "import sys, course_lib, course_lib.probes; print('transformers' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    assert ran.stdout.strip() == "False"
