"""The linear classifier's line for images: softmax regression on the pixels, without augmentation.

python experiments/linear_classifier.py [--full [--folder FOLDER]]

Full-batch L-BFGS from zero on pixels normalised as for the models; the L2 penalty is the one of a grid that
does best on the last fifth of the training part, on which it is then trained as well. Prints the figures
that course_lib/data/baselines.py keeps, to three digits: rounding, with the number of threads, decides the
class of an image or two. Half a minute on one core; some minutes with --full.
"""

import argparse

import torch
import torch.nn.functional as F

from course_lib.data import make_task

PENALTIES = (0.001, 0.003, 0.01, 0.03)


def fit(inputs, labels, penalty):
    """Weights (10, pixels) and biases (10,) that minimise cross-entropy + penalty/2 · |weights|²."""
    weights = torch.zeros(10, inputs.shape[1], requires_grad=True)
    biases = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, biases], max_iter=300, history_size=20, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ weights.T + biases, labels) + penalty / 2 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach(), biases.detach()


def score(model, inputs, labels):
    """Cross-entropy and accuracy."""
    logits = inputs @ model[0].T + model[1]
    right = (logits.argmax(-1) == labels).double().mean()
    return F.cross_entropy(logits, labels).item(), right.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full set instead of the vendored part")
    parser.add_argument("--folder", help="one that has the full set, which is else downloaded")
    options = parser.parse_args()
    kind = "fashion-mnist-full" if options.full else "fashion-mnist"
    images = make_task(kind, context=0, seed=0, folder=options.folder).images
    inputs = images.normalise(images.train_images).flatten(1)
    labels = torch.from_numpy(images.train_labels)
    held_out = len(inputs) // 5
    found = {}
    for penalty in PENALTIES:
        model = fit(inputs[:-held_out], labels[:-held_out], penalty)
        found[penalty] = score(model, inputs[-held_out:], labels[-held_out:])
        print(f"penalty {penalty}: held out, loss {found[penalty][0]:.4f}, accuracy {found[penalty][1]:.4f}")
    best = min(found, key=lambda penalty: found[penalty])
    model = fit(inputs, labels, best)
    test = images.normalise(images.test_images).flatten(1), torch.from_numpy(images.test_labels)
    loss, accuracy = score(model, *test)
    print(f"{images.digest}\npenalty {best}: test part, loss {loss:.4f}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
