"""Verdicts, on constructed records and on real runs."""

import numpy as np
import pytest

from course_lib.data import Baseline
from course_lib.probes import uniform_rank
from course_lib.runs import Record, judge

REFERENCE = Baseline("bigram", 2.0)
HIGH, LOW = 0.8, 0.05
UNIFORM = (uniform_rank(32), uniform_rank(32))


def history(losses, layers, val_loss=None, context=32):
    """Records with the given losses; `layers` holds (entropy, rank relative to uniform) at the end.

    Attention starts uniform; the given state is reached at the second of three probes.
    """

    def probes(state):
        entropy = np.array([[e, e] for e, _ in state])
        rank = np.array([[r, r] for _, r in state]) * uniform_rank(context)
        return {"entropy": entropy, "attention_rank": rank}

    at = {0: [(1.0, 1.0)] * len(layers), len(losses) // 2: layers, len(losses) - 1: layers}
    records = [Record(t, 0.1, loss, probes(at[t]) if t in at else {}) for t, loss in enumerate(losses)]
    records[-1].val_loss = val_loss
    return records


LEARNT, STUCK = np.linspace(4, 1, 100), np.linspace(4, 3, 100)


@pytest.mark.parametrize(
    ("losses", "layers", "name", "learnt", "first"),
    [
        (LEARNT, [(HIGH, 1.5), (HIGH, 1.0)], "healthy", True, None),
        (LEARNT, [(HIGH, 1.5), (LOW, 2.0)], "benign collapse", True, 50),
        (LEARNT, [(LOW, 0.3), (HIGH, 1.0)], "benign collapse", True, 50),
        (STUCK, [(LOW, 0.3), (HIGH, 1.0)], "malignant collapse", False, 50),
        (STUCK, [(LOW, 2.0), (LOW, 0.3)], "malignant collapse", False, 50),
        (STUCK, [(HIGH, 0.3), (HIGH, 1.0)], "stalled", False, None),
        (STUCK, [(LOW, 2.0), (HIGH, 1.0)], "stalled", False, None),
        (np.linspace(4, 9, 100), [(LOW, 0.3)], "diverged", False, None),
        (np.append(LEARNT, np.nan), [(HIGH, 1.0)], "diverged", False, None),
        (np.append(LEARNT, np.inf), [(HIGH, 1.0)], "diverged", False, None),
        (LEARNT, [(np.nan, 1.0)], "healthy", True, None),
        (STUCK, [(np.nan, 0.1)], "stalled", False, None),
    ],
)
def test_the_rule(losses, layers, name, learnt, first):
    verdict = judge(history(losses, layers), REFERENCE, UNIFORM[: len(layers)], finished=True)
    assert (verdict.name, verdict.learnt, verdict.first_collapse_step) == (name, learnt, first)
    assert name in str(verdict)


def test_the_validation_loss_counts_where_there_is_one():
    records = history(LEARNT, [(HIGH, 1.0)], val_loss=3.0)
    assert judge(records, REFERENCE, UNIFORM[:1], finished=True).name == "stalled"


def test_a_run_in_its_steps_may_yet_learn():
    records = history(STUCK, [(HIGH, 1.0)])
    assert judge(records, REFERENCE, UNIFORM[:1], finished=False).name == "undecided"


def test_without_probes_the_loss_decides():
    records = [Record(t, 0.1, loss) for t, loss in enumerate(STUCK)]
    assert judge(records, REFERENCE, UNIFORM[:1], finished=True).name == "stalled"


@pytest.mark.parametrize(
    ("losses", "entropy", "spectrum", "name", "first"),
    [
        (STUCK, np.nan, 0.2, "malignant collapse", 50),
        (STUCK, np.nan, 0.4, "stalled", None),
        (LEARNT, np.nan, 0.2, "healthy", None),
        (STUCK, HIGH, 0.2, "stalled", None),  # where there is an entropy, it decides
    ],
)
def test_where_there_is_no_entropy_the_spectrum_speaks(losses, entropy, spectrum, name, first):
    """The second layer's W_qᵀW_k keeps this share of the effective rank that it began with."""
    records = history(losses, [(entropy, 1.0), (entropy, 1.0)])
    for record in records:
        if record.probes:
            share = 1.0 if record.step == 0 else spectrum
            record.probes["qk_rank"] = np.array([[15.0, 13.0], [15.0 * share, 13.0 * share]])
    verdict = judge(records, REFERENCE, UNIFORM, finished=True)
    assert (verdict.name, verdict.first_collapse_step) == (name, first)
    assert [layer.spectrum for layer in verdict.layers] == pytest.approx([1.0, spectrum])


def test_heads_that_a_layer_does_not_have_are_left_out():
    """Swin's stages differ in heads: the table of the first ends in NaN."""
    records = [Record(t, 0.1, loss) for t, loss in enumerate(STUCK)]
    low, none = LOW, np.nan
    records[-1].probes = {
        "entropy": np.array([[low, low, none, none], [HIGH] * 4]),
        "attention_rank": np.array([[2.0, 4.0, none, none], [8.0] * 4]),
    }
    verdict = judge(records, REFERENCE, (12.0, 4.0), finished=True)
    assert verdict.name == "malignant collapse"
    assert [layer.rank for layer in verdict.layers] == pytest.approx([3 / 12, 2.0])


def test_nothing_to_judge():
    with pytest.raises(ValueError, match="records is empty"):
        judge([], REFERENCE, UNIFORM, finished=False)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_copy_shows_both_modes_equally_low_in_entropy_and_apart_in_rank(trained, seed):
    crashed = trained("copy", "adamw", seed).verdict()
    tamed = trained("copy", "adamw2", seed).verdict()
    warm = trained("copy", "adamw-warmup", seed).verdict()
    assert (crashed.name, crashed.learnt) == ("malignant collapse", False)
    assert (tamed.name, tamed.learnt) == ("benign collapse", True)
    assert (warm.name, warm.learnt) == ("benign collapse", True)
    # The first layer does the copying. Entropy .00–.01 in all; rank .3–.6 against 2.0–2.1 × uniform.
    for verdict in (crashed, tamed, warm):
        assert verdict.layers[0].entropy < 0.05
    assert crashed.layers[0].rank < 1 < 1.5 < min(tamed.layers[0].rank, warm.layers[0].rank)


@pytest.mark.slow
def test_text_crashes_and_is_tamed(trained):
    crashed = trained("live", "adamw").verdict()
    tamed = trained("live", "adamw2").verdict()
    assert (crashed.name, crashed.learnt) == ("malignant collapse", False)
    assert (tamed.name, tamed.learnt) == ("healthy", True)
    assert tamed.loss < crashed.loss - 0.3
