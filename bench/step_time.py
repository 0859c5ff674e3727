"""A training step of our models beside one of transformers' models of the same size, kernel and optimizer.

Drawing a batch, forward, backward and fused AdamW on the same data; the two take turns. GPT and ViT by
`scaled_dot_product_attention` in both; Swin with `attn_implementation="sdpa"` and with "eager", its own.
"""

import sys
from itertools import count

import torch
import torch.nn.functional as F
from timing import alternate, report
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from course_lib import Run, preset

ROUNDS = {"live": 100, "study": 30, "vit": 60, "swin": 60, "flatten-swin": 60}


def gpt2(run: Run):
    """GPT-2 with the sizes of `run`."""
    c = run.config
    config = GPT2Config(
        vocab_size=run.task.vocab,
        n_positions=c.context,
        n_embd=c.d_model,
        n_layer=c.layers,
        n_head=c.heads,
        activation_function="gelu",  # the exact one, as in ours; GPT-2's own tanh form is slower
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return GPT2LMHeadModel(config)


def vit(run: Run):
    """ViT with the sizes of `run`, whose patches come from one convolution."""
    c = run.config
    config = ViTConfig(
        image_size=c.image_size,
        patch_size=c.patch,
        num_channels=1,
        hidden_size=c.d_model,
        intermediate_size=4 * c.d_model,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        num_labels=run.task.n_classes,
        qkv_bias=False,
        attn_implementation="sdpa",
    )
    return ViTForImageClassification(config)


def swin(run: Run, kernel: str):
    """Swin with the sizes of `run`."""
    c = run.config
    config = SwinConfig(
        image_size=c.image_size,
        patch_size=c.patch,
        num_channels=1,
        embed_dim=c.d_model,
        depths=list(c.depths),
        num_heads=[c.heads << stage for stage in range(len(c.depths))],
        window_size=c.window,
        num_labels=run.task.n_classes,
        qkv_bias=False,
        hidden_dropout_prob=0.0,
        drop_path_rate=0.0,
        attn_implementation=kernel,
    )
    return SwinForImageClassification(config)


def rivals(name: str, run: Run):
    """Label → a model of transformers; the first is what ratios are to."""
    if name in ("swin", "flatten-swin"):
        kernels = ("sdpa", "eager") if name == "swin" else ("sdpa",)
        return {f"transformers' Swin, {kernel}": swin(run, kernel) for kernel in kernels}
    return {"transformers": vit(run) if name == "vit" else gpt2(run)}


def training(model, run: Run):
    """A function that makes one step of `model` on the data of `run`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    numbers = count()

    def step():
        inputs, targets = run.to_device(run.task.batch(next(numbers), run.config.batch))
        logits = model(inputs).logits
        loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main():
    for name in sys.argv[1:] or ROUNDS:
        # A patch is one convolution in theirs.
        run = Run(preset(name, probe_every=0, steps=10_000, stem="patch"))
        contestants = {label: training(model, run) for label, model in rivals(name, run).items()}
        base = next(iter(contestants))
        times = alternate({**contestants, "ours": lambda r=run: r.step().loss}, ROUNDS[name])
        print(f"{name}: a training step, {torch.get_num_threads()} threads, {ROUNDS[name]} rounds")
        print(report(times, base).to_string(), end="\n\n")


if __name__ == "__main__":
    main()
