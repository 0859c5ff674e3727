"""Our ViT and Swin against those of `transformers`, with the same weights."""

import pytest
import torch

from course_lib.models import Swin, SwinConfig, ViT, ViTConfig

transformers = pytest.importorskip("transformers", reason="needs the extra [integrations]")


def tensors(block, theirs, ours):
    """Our names → their tensors of one block; theirs begin with `theirs`, ours with `ours`."""
    names = {
        "attention.w_q.weight": "attention.q_proj.weight",
        "attention.w_k.weight": "attention.k_proj.weight",
        "attention.w_v.weight": "attention.v_proj.weight",
        "attention.w_o.weight": "attention.o_proj.weight",
        "mlp.w_in.weight": "mlp.fc1.weight",
        "mlp.w_in.bias": "mlp.fc1.bias",
        "mlp.w_out.weight": "mlp.fc2.weight",
        "mlp.w_out.bias": "mlp.fc2.bias",
    }
    for side in ("weight", "bias"):
        names[f"norm_attention.{side}"] = f"layernorm_before.{side}"
        names[f"norm_mlp.{side}"] = f"layernorm_after.{side}"
    return {ours + name: block[theirs + other] for name, other in names.items()}


def drawn(model):
    """Every parameter far from zero, but for the biases that ours have not."""
    torch.manual_seed(0)
    without = ("o_proj.bias", "projection.bias", "classifier.bias")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.zero_() if name.endswith(without) else p.normal_(std=0.2)
    return {name: p.detach() for name, p in model.named_parameters()}


def agree(ours, theirs, weights, images):
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert not missing
    assert not unexpected
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images).logits, rtol=1e-5, atol=1e-5)


def test_vit():
    theirs = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=16, patch_size=4, num_channels=3, hidden_size=16, intermediate_size=64,
            num_hidden_layers=3, num_attention_heads=4, num_labels=5, qkv_bias=False, layer_norm_eps=1e-5,
        )
    )  # fmt: skip
    w = drawn(theirs)
    ours = ViT(ViTConfig(n_classes=5, image_size=16, channels=3, patch=4, d_model=16, heads=4, layers=3))
    weights = {
        "patch_embedding.project.weight": w["vit.embeddings.patch_embeddings.projection.weight"],
        "class_token.weight": w["vit.embeddings.cls_token"][0],
        "position_embedding.weight": w["vit.embeddings.position_embeddings"][0],
        "final_norm.weight": w["vit.layernorm.weight"],
        "final_norm.bias": w["vit.layernorm.bias"],
        "head.weight": w["classifier.weight"],
    }
    for i in range(3):
        weights |= tensors(w, f"vit.layers.{i}.", f"blocks.{i}.")
    agree(ours, theirs, weights, torch.randn(4, 3, 16, 16))


def test_swin():
    """Windows of 4² on maps of 16², 8² and 4²: shifted and masked in the first two stages."""
    depths = (2, 3, 2)
    theirs = transformers.SwinForImageClassification(
        transformers.SwinConfig(
            image_size=32, patch_size=2, num_channels=3, embed_dim=16, depths=list(depths),
            num_heads=[2, 4, 8], window_size=4, num_labels=5, qkv_bias=False,
            hidden_dropout_prob=0.0, drop_path_rate=0.0,
        )
    )  # fmt: skip
    w = drawn(theirs)
    ours = Swin(
        SwinConfig(
            n_classes=5, image_size=32, channels=3, patch=2, d_model=16, heads=2, depths=depths, window=4
        )
    )  # fmt: skip
    weights = {
        "patch_embedding.project.weight": w["swin.embeddings.patch_embeddings.projection.weight"],
        "head.weight": w["classifier.weight"],
    }
    for side in ("weight", "bias"):
        weights[f"embedding_norm.{side}"] = w[f"swin.embeddings.norm.{side}"]
        weights[f"final_norm.{side}"] = w[f"swin.layernorm.{side}"]
    first = 0
    for stage, depth in enumerate(depths):
        if stage:
            merging = f"swin.encoder.layers.{stage - 1}.downsample"
            for name in ("norm.weight", "norm.bias", "reduction.weight"):
                weights[f"blocks.{first}.merging.{name}"] = w[f"{merging}.{name}"]
        for i in range(depth):
            block = f"swin.encoder.layers.{stage}.blocks.{i}."
            weights |= tensors(w, block, f"blocks.{first + i}.")
            table = w[f"{block}attention.relative_position_bias.relative_position_bias_table"]
            weights[f"blocks.{first + i}.attention.position_bias.table.weight"] = table
        first += depth
    agree(ours, theirs, weights, torch.randn(4, 3, 32, 32))
