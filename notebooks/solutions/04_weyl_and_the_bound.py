"""Solutions of notebook 04. Run from top to bottom, it passes every checker of the notebook."""

import torch

from course_lib.exercises import check_adamw2, check_allowed_lr, check_power_iteration, check_promises

# Exercise 1 · The rule


def my_lr(lr, tau, sigma_w, sigma_update):
    """α for one matrix: sigma_w is σ₁(W), sigma_update σ₁(ΔW)."""
    return min(lr, tau * sigma_w / sigma_update)


result = check_allowed_lr(my_lr)
print(result)
assert result.passed

# Exercise 2 · Power iteration


def my_power(w, v, iterations):
    """An estimate of σ₁ of w (m, n), from the start v (n,), after so many products with wᵀw."""
    for _ in range(iterations):
        v = w.T @ (w @ v)
        v = v / (v @ v) ** 0.5
    image = w @ v
    return (image @ image) ** 0.5


result = check_power_iteration(my_power)
print(result)
assert result.passed

# Exercise 3 · AdamW² in twenty lines


def my_step(w, grad, state, lr, tau, betas, eps, weight_decay):
    """Returns the new W, a tensor. Keep m, v and t in the dict `state`, empty before the first step."""
    if not state:
        state.update(m=torch.zeros_like(w), v=torch.zeros_like(w), t=0)
    state["t"] += 1
    state["m"] = betas[0] * state["m"] + (1 - betas[0]) * grad
    state["v"] = betas[1] * state["v"] + (1 - betas[1]) * grad**2
    m_hat = state["m"] / (1 - betas[0] ** state["t"])
    v_hat = state["v"] / (1 - betas[1] ** state["t"])
    update = m_hat / (v_hat.sqrt() + eps)
    sigma_w, sigma_update = (torch.linalg.matrix_norm(x, 2).item() for x in (w, update))
    alpha = my_lr(lr, tau, sigma_w, sigma_update)
    return (1 - alpha * weight_decay) * w - alpha * update


result = check_adamw2(my_step)
print(result)
assert result.passed

# Exercise 4 · What the bound promises

promised = {"a", "c", "f"}
result = check_promises(promised)
print(result)
assert result.passed
