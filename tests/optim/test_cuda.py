"""Both bounded optimizers on a CUDA device: they wait for nothing, keep to τ, and step as on the CPU."""

import copy

import pytest
import torch
from torch import nn

from course_lib import GPT, AdamW2, GPTConfig
from course_lib.optim import SpectralBound

DEVICE = "cuda"
TAU = 0.05
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

BOUNDED = {
    "AdamW2": lambda model: AdamW2(model, lr=0.1, tau=TAU, weight_decay=0.0),
    "SGD": lambda model: SpectralBound(
        torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9), TAU, model=model
    ),
    "AdamW fused": lambda model: SpectralBound(
        torch.optim.AdamW(model.parameters(), lr=0.1, fused=True), TAU, model=model
    ),
    "RAdam": lambda model: SpectralBound(torch.optim.RAdam(model.parameters(), lr=0.1), TAU, model=model),
}
each_bounded = pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED)


def gpt(device=DEVICE, dtype=torch.float32):
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab=11, context=16, d_model=32, heads=4)).to(device, dtype)


def ids(step):
    """Periods of 5 symbols: what is learnt in one step helps in the next, as in training."""
    start = torch.arange(8) + step
    return ((start[:, None] + torch.arange(17)) % 5 + start[:, None] % 3).to(DEVICE)


def backward(model, step, scaler=None):
    data = ids(step).to(next(model.parameters()).device)
    logits = model(data[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), data[:, 1:].flatten())
    (loss if scaler is None else scaler.scale(loss)).backward()


def train(model, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step()


@each_bounded
def test_a_step_never_waits_for_the_device(make):
    model = gpt()
    optimizer = make(model)
    train(model, optimizer, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(r.cut.is_cuda for r in optimizer.last_step.values())


@each_bounded
def test_no_step_of_a_training_moves_a_matrix_by_more_than_tau(make):
    model = gpt()
    optimizer = make(model)
    cut = 0
    for step in range(50):
        optimizer.zero_grad()
        backward(model, step)
        before = {name: p.detach().double() for name, p in model.named_parameters()}
        optimizer.step()
        for name, report in optimizer.last_step.items():
            moved = dict(model.named_parameters())[name].detach().double() - before[name]
            share = torch.linalg.matrix_norm(moved, 2) / torch.linalg.matrix_norm(before[name], 2)
            assert share.item() <= 1.02 * TAU, (step, name)
            cut += report.cut.item()
    assert cut > 50  # else nothing was seen


@each_bounded
def test_the_first_steps_are_the_cpus(make):
    here, there = gpt(), gpt("cpu")
    there.load_state_dict(here.state_dict())
    for model in (here, there):
        train(model, make(model), 3)
    for (name, a), b in zip(here.named_parameters(), there.parameters(), strict=True):
        # Adam's step of a gradient near zero has a sign that rounding decides: a few entries may differ.
        off = torch.linalg.norm(a.detach().cpu() - b.detach()) / torch.linalg.norm(b.detach())
        assert off < 0.01, name


@each_bounded
def test_a_state_goes_to_the_cpu_and_back(make):
    model = gpt()
    optimizer = make(model)
    train(model, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    saved = torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.cpu(), state)
    twin = copy.deepcopy(model)
    restored = make(twin)
    restored.load_state_dict(saved)
    for m, o in ((model, optimizer), (twin, restored)):
        o.zero_grad()
        backward(m, 3)
        o.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


@each_bounded
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(make, dtype):
    model = gpt()
    optimizer = make(model)
    scaler = torch.amp.GradScaler(DEVICE, enabled=dtype == torch.float16)
    before = None
    for step in range(5):
        optimizer.zero_grad()
        with torch.autocast(DEVICE, dtype):
            backward(model, step, scaler)
        if step == 4:
            before = {name: p.detach().double() for name, p in model.named_parameters()}
        scaler.step(optimizer)
        scaler.update()
    for name in optimizer.last_step:
        w = dict(model.named_parameters())[name].detach().double()
        moved = torch.linalg.matrix_norm(w - before[name], 2)
        assert 0 < moved <= 1.02 * TAU * torch.linalg.matrix_norm(before[name], 2), name


@each_bounded
def test_parameters_in_bf16_keep_to_tau_but_for_rounding(make):
    model = gpt(dtype=torch.bfloat16)
    optimizer = make(model)
    train(model, optimizer, 4)
    before = {name: p.detach().double() for name, p in model.named_parameters()}
    optimizer.step()
    for name in optimizer.last_step:
        w = dict(model.named_parameters())[name].detach().double()
        moved = torch.linalg.matrix_norm(w - before[name], 2)
        # Each entry is rounded to 8 bits: noise of half a unit in the last place, of σ₁ ≤ ‖·‖_F.
        rounding = torch.linalg.norm(before[name]) * 2**-8
        assert moved <= TAU * torch.linalg.matrix_norm(before[name], 2) * 1.02 + rounding, name
