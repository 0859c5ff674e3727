"""A training step of our GPT beside that of transformers' GPT-2 of the same size, with the same kernel.

Both: scaled_dot_product_attention, fused AdamW, cross-entropy, no dropout, fp32, the same batch size. GPT-2
has a bias on every matrix and ties its head to its embedding; ours draws a new batch in every step.

    python bench/step_time.py
"""

import torch
import torch.nn.functional as F
from timing import alternate, report
from transformers import GPT2Config, GPT2LMHeadModel

from course_lib import Run, preset

ROUNDS = {"live": 100, "study": 30}


def rival(run: Run):
    """A step of GPT-2 with the sizes and data of `run`."""
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
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs, targets = run.task.batch(0, c.batch)

    def step():
        logits = model(input_ids=inputs).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main():
    for name, rounds in ROUNDS.items():
        run = Run(preset(name, probe_every=0, steps=10_000))
        times = alternate({"transformers": rival(run), "ours": lambda r=run: r.step().loss}, rounds)
        print(f"{name}: a training step, {torch.get_num_threads()} threads, {rounds} rounds")
        print(report(times, "transformers").to_string(), end="\n\n")


if __name__ == "__main__":
    main()
