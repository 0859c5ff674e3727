"""ViT and what makes tokens of its images."""

import pytest
import torch

from course_lib.models import ATTENTION_KINDS, GROUPS, ViT, ViTConfig, parameter_groups
from course_lib.models.patches import PatchEmbedding

SMALL = {"n_classes": 5, "image_size": 16, "channels": 2, "patch": 4, "d_model": 16, "heads": 2, "layers": 2}


@pytest.mark.parametrize("stem", ["patch", "conv"])
@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_pixel_counts(stem, kind, norm, generator):
    model = ViT(ViTConfig(**SMALL, stem=stem, attention=kind, norm=norm), generator)
    images = torch.randn(3, 2, 16, 16, generator=generator, requires_grad=True)
    logits = model(images)
    assert logits.shape == (3, 5)
    (gradient,) = torch.autograd.grad(logits[1, 0], images)
    assert (gradient[1] != 0).float().mean() > 0.9  # a GELU may have no slope to speak of
    assert (gradient[[0, 2]] == 0).all()  # an image's logits depend on that image alone


def test_a_patch_is_a_place_of_the_map(generator):
    embed = PatchEmbedding(ViTConfig(n_classes=3, image_size=16, patch=4, d_model=8))
    image = torch.zeros(1, 1, 16, 16)
    image[..., 5, 9] = 1  # in the second row of patches, the third column
    assert embed(image).abs().sum(-1).nonzero().tolist() == [[0, 1, 2]]


def test_the_convolutional_stem_halves_the_image_until_a_pixel_is_left_of_a_patch():
    embed = PatchEmbedding(
        ViTConfig(n_classes=3, image_size=32, channels=3, patch=8, d_model=16, stem="conv")
    )
    assert [conv.weight.shape[:2] for conv in embed.convs] == [(4, 3), (8, 4), (16, 8)]
    assert embed(torch.zeros(2, 3, 32, 32)).shape == (2, 4, 4, 16)


def test_tokens_have_places(generator):
    """Without positions a ViT could not tell an image from one with its patches exchanged."""
    model = ViT(ViTConfig(**SMALL), generator)
    image = torch.randn(1, 2, 16, 16, generator=generator)
    exchanged = image.roll(4, -1)
    assert not torch.allclose(model(image), model(exchanged))
    with torch.no_grad():
        model.position_embedding.weight.zero_()
    torch.testing.assert_close(model(image), model(exchanged))


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_every_parameter_belongs_to_a_group(stem):
    model = ViT(ViTConfig(**SMALL, qk_norm=True, stem=stem))
    groups = parameter_groups(model)
    assert tuple(groups) == GROUPS
    assert sum(len(members) for members in groups.values()) == len(list(model.parameters()))
    assert set(groups["embedding"]) >= {
        "patch_embedding.project.weight",
        "class_token.weight",
        "position_embedding.weight",
    }
    assert all(p.ndim == 1 for p in groups["norm"].values())
    assert all(p.ndim > 1 for p in groups["embedding"].values())


def test_initial_spread_of_weights():
    sizes = {**SMALL, "channels": 64, "d_model": 256}
    model = ViT(ViTConfig(**sizes), torch.Generator().manual_seed(0))
    spread = {name: p.std().item() for name, p in model.named_parameters() if p.ndim > 1}
    for name, std in spread.items():
        scaled = name.endswith(("w_o.weight", "w_out.weight"))
        assert std == pytest.approx(0.01 if scaled else 0.02, rel=0.1), name  # 256 draws: 1/√512 = 4 %


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 5}, r"patch is 5: expected a divisor of the image's side \(16\); try 4"),
        ({"patch": 0}, "patch is 0: expected a whole number"),
        ({"stem": "cnv"}, "stem is 'cnv': expected one of patch, conv; did you mean 'conv'"),
        (
            {"stem": "conv", "image_size": 12, "patch": 6},
            "patch is 6: expected a power of two for the stem 'conv'",
        ),
        ({"stem": "conv", "patch": 1}, "patch is 1: expected a power of two"),
        ({"heads": 3}, r"heads is 3: expected a divisor of d_model \(16\)"),
        ({"n_classes": 0}, "n_classes is 0"),
        ({"attention": "softmx"}, "did you mean 'softmax'"),
    ],
)
def test_bad_sizes(change, message):
    with pytest.raises(ValueError, match=message) as error:
        ViT(ViTConfig(**{**SMALL, **change}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 2, 16, 20), r"images have shape \(3, 2, 16, 20\): expected \(batch, 2, 16, 16\)"),
        (torch.zeros(3, 1, 16, 16), r"images have shape \(3, 1, 16, 16\)"),
        (torch.zeros(16, 16), r"images have shape \(16, 16\)"),
        (
            torch.zeros(3, 2, 16, 16, dtype=torch.uint8),
            r"images have dtype torch.uint8: expected floating point; try images.float\(\)",
        ),
        (
            torch.zeros(3, 2, 16, 16, dtype=torch.float64),
            r"images have dtype torch.float64: expected torch.float32, as the weights; try images.float\(\)",
        ),
    ],
)
def test_images_that_will_not_do(images, message):
    with pytest.raises(ValueError, match=message):
        ViT(ViTConfig(**SMALL))(images)
