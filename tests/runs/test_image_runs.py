"""Runs on images: ViT, Swin and Flatten-Swin under the same Run, records, verdict and files as GPT."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib import Run, RunConfig, preset
from course_lib.data import Baseline, load_images
from course_lib.figures.comparison import compare_figure
from course_lib.models import BLOCK_GROUPS, parameter_groups
from course_lib.optim import bounded_parameters
from course_lib.runs import Record, judge, probed
from course_lib.studies.compare_arms import ArmResult

TINY = {
    "image_size": 28,
    "d_model": 16,
    "heads": 2,
    "patch": 7,
    "batch": 8,
    "steps": 6,
    "probe_every": 2,
    "stem": "patch",
}
MODELS = {
    "vit": {**TINY, "layers": 2},
    "swin": {**TINY, "depths": (2, 2), "window": 2},
    "flatten-swin": {**TINY, "depths": (1, 2)},
}


def tiny(model, **changes):
    return preset(model, **{**MODELS[model], **changes})


@pytest.fixture(params=MODELS)
def model(request):
    return request.param


def test_records_hold_accuracies_and_each_layers_heads(model):
    run = Run(tiny(model, optimizer="adamw2"))
    records = list(run)
    assert [r.step for r in records if r.val_accuracy is not None] == [6]
    assert all(0 <= r.accuracy <= 1 for r in records)
    layers = {"vit": [2, 2], "swin": [2, 2, 4, 4], "flatten-swin": [2, 4, 4]}[model]
    assert run.heads == tuple(layers)
    frame = run.to_frame()
    heads = frame[(frame.quantity == "qk_sigma") & (frame.step == 4)].groupby("layer").size()
    assert heads.tolist() == layers
    assert frame[frame.quantity == "qk_sigma"].value.notna().all()
    assert frame[frame.quantity == "val_accuracy"].value.tolist() == [records[-1].val_accuracy]
    assert frame[frame.quantity == "accuracy"].step.tolist() == list(range(7))


def test_a_batchs_accuracy_is_the_share_of_right_answers():
    run = Run(tiny("vit"))
    inputs, labels = run.task.batch(0, 8)
    with torch.no_grad():
        logits = run.model(inputs)
    record = run.step()
    assert record.accuracy == (logits.argmax(-1) == labels).float().mean().item()
    assert record.loss == F.cross_entropy(logits, labels).item()


def test_validation_is_on_every_test_image(monkeypatch):
    run = Run(tiny("vit", batch=7))  # 2,000 is no multiple of it
    images = load_images()
    with torch.no_grad():
        logits = run.model(images.normalise(images.test_images))
    labels = torch.from_numpy(images.test_labels)
    score = run.evaluate()
    assert score.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert score.accuracy == pytest.approx((logits.argmax(-1) == labels).float().mean().item(), abs=1e-6)
    assert run.validate() == score.loss


@pytest.mark.slow
def test_restored_forked_and_loaded_it_repeats_bit_for_bit(model, tmp_path):
    """AdamW² has all the state that AdamW has, and vectors; test_run.py has both, on text."""
    run = Run(tiny(model, optimizer="adamw2"))
    for _ in range(3):
        run.step()
    kept, fork = run.snapshot(), run.fork()
    run.save(tmp_path / "run")
    list(run)
    end = run.records[-1]
    runs = {"fork": fork, "loaded": Run.load(tmp_path / "run"), "restored": Run(run.config)}
    runs["restored"].restore(kept)
    for name, other in runs.items():
        list(other)
        assert [r.loss for r in other.records] == [r.loss for r in run.records], name
        assert [r.accuracy for r in other.records] == [r.accuracy for r in run.records], name
        last = other.records[-1]
        assert (last.val_loss, last.val_accuracy) == (end.val_loss, end.val_accuracy), name
        for quantity, values in end.probes.items():
            np.testing.assert_array_equal(last.probes[quantity], values)
    run.save(tmp_path / "run")
    assert Run.load(tmp_path / "run").to_frame().equals(run.to_frame())


def test_probes_change_nothing(model):
    watched, unwatched = Run(tiny(model)), Run(tiny(model, probe_every=0))
    assert [r.loss for r in watched] == [r.loss for r in unwatched]


@pytest.mark.parametrize("optimizer", ["adamw", "adamw2"])
def test_a_step_runs_on_meta_so_nothing_is_tied_to_the_cpu(model, optimizer):
    run = Run(tiny(model, optimizer=optimizer, device="meta", image_size=56))
    run.step()
    record = run.step()
    assert record._loss.is_meta
    assert record._accuracy.is_meta
    assert all(p.is_meta for p in run.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "millions"), [("vit-b", 85.4), ("swin-t", 27.5), ("gpt2-124m", 85.9)])
def test_models_of_a_papers_size_build_and_step(name, millions):
    """ViT-B/16 has 86.6 million parameters, Swin-T 28.3: ours lack biases, two channels and 990 classes.
    GPT-2 small has 124, of which 38.6 are the embedding of its 50,257 tokens."""
    run = Run(preset(name, device="meta", optimizer="adamw2"))
    assert run.step()._loss.is_meta
    assert run.step()._loss.is_meta
    n = sum(p.numel() for p in run.model.parameters())
    assert n / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_cuda_follows_the_cpus(model):
    cpu, cuda = (Run(tiny(model, optimizer="adamw2", device=d)) for d in ("cpu", "cuda"))
    first = [[r.loss for _, r in zip(range(3), run, strict=False)] for run in (cpu, cuda)]
    assert first[1] == pytest.approx(first[0], rel=1e-3)


def test_what_a_run_bounds_is_what_bounded_parameters_names(model):
    run = Run(tiny(model, optimizer="adamw2", stem="patch"))
    groups = parameter_groups(run.model)
    inside = {n for group in BLOCK_GROUPS for n, p in groups[group].items() if p.ndim >= 2}
    assert inside == set(bounded_parameters(run.model))
    run.step()
    assert set(run.optimizer.last_step) == inside


def test_the_bound_holds(model):
    run = Run(tiny(model, optimizer="adamw2", lr=0.1, probe_every=1, tau=0.05))
    list(run)
    _, ratio = probed(run.records, "rho_applied")
    inside = [name in bounded_parameters(run.model) for name in run.matrices]
    assert ratio[:, inside].max() <= 0.05 * 1.02  # as in test_run.py
    free = Run(tiny(model, lr=0.1, probe_every=1))
    list(free)
    assert probed(free.records, "rho_applied")[1][:, inside].max() > 1


def test_images_are_scaled_to_the_resolution():
    run = Run(tiny("vit", image_size=56, patch=14))
    inputs, _ = run.to_device(run.task.batch(0, 8))
    assert inputs.shape == (8, 1, 56, 56)
    small, _ = run.task.batch(0, 8)
    torch.testing.assert_close(F.avg_pool2d(inputs, 2), small, rtol=0, atol=0.75)  # the same pictures
    run.step()


@pytest.mark.parametrize("kind", ["sigmoid", "relu2", "identity", "uniform"])
@pytest.mark.parametrize("name", ["vit", "swin"])
def test_other_kinds_of_attention_train(name, kind):
    run = Run(tiny(name, attention=kind))
    list(run)
    assert np.isnan(run.records[-1].probes["entropy"]).all() == (kind != "uniform")
    assert run.verdict().name in ("stalled", "healthy", "malignant collapse")


def test_there_is_a_picture_for_images():
    results = []
    for arm in ("adamw", "adamw2"):
        run = Run(tiny("swin", optimizer=arm))
        list(run)
        results.append(ArmResult(arm, run, 1.0))
    figure = compare_figure(results)
    accuracy, _, rank, _ = figure.axes
    assert accuracy.get_ylabel() == "accuracy"
    assert {text.get_text() for text in accuracy.texts} == {
        "constant guess",
        "nearest class mean",
        "linear classifier",
    }
    assert rank.get_ylabel() == "effective rank (× reference)"
    row = results[0].to_dict()
    assert row["final_val_accuracy"] == results[0].run.records[-1].val_accuracy
    assert row["reference"] == pytest.approx(row["reference"] | {"accuracy": 0.67}, abs=0.01)
    json.dumps(row, allow_nan=False)


LINE = Baseline("nearest class mean", 1.2, 0.67)


def history(accuracy, val_accuracy=None, loss=2.0):
    records = [Record(t, 0.1, loss, _accuracy=accuracy) for t in range(30)]
    records[-1].val_accuracy = val_accuracy
    records[-1].val_loss = None if val_accuracy is None else loss
    return records


@pytest.mark.parametrize(
    ("accuracy", "val_accuracy", "loss", "finished", "name"),
    [
        (0.5, 0.68, 2.0, True, "healthy"),  # the validation accuracy counts, whatever loss and batches say
        (0.9, 0.66, 0.3, True, "stalled"),
        (0.7, None, 2.0, False, "healthy"),  # before the end, that of the last batches
        (0.6, None, 0.3, False, "undecided"),
    ],
)
def test_images_are_judged_by_accuracy(accuracy, val_accuracy, loss, finished, name):
    verdict = judge(history(accuracy, val_accuracy, loss), LINE, (1.0,), finished=finished)
    assert verdict.name == name
    assert verdict.accuracy == pytest.approx(accuracy if val_accuracy is None else val_accuracy)
    side = "above" if verdict.learnt else "not above"
    assert f"accuracy {verdict.accuracy:.2f}, {side} the nearest class mean line (0.67)" in str(verdict)


def test_images_that_blow_up_diverge_whatever_the_accuracy():
    records = history(0.9)
    records[-1]._loss = np.nan
    assert judge(records, LINE, (1.0,), finished=True).name == "diverged"


BAD = [
    (
        "vit",
        {"task": "text"},
        "model is 'vit': expected gpt for the task 'text'; try the preset 'live', or another task",
    ),
    (
        "live",
        {"task": "fashion-mnist"},
        "model is 'gpt': expected vit, swin, flatten-swin for the task 'fashion-mnist'; try the preset 'vit'",
    ),
    ("vit", {"model": "vti"}, "model is 'vti': expected one of gpt, vit, .*did you mean 'vit'"),
    ("vit", {"patch": 5}, r"patch is 5: expected a divisor of the image's side \(32\); try 4"),
    (
        "vit",
        {"image_size": 28, "patch": 7, "stem": "conv"},
        "patch is 7: expected a power of two for the stem 'conv'",
    ),
    ("vit", {"heads": 5}, r"heads is 5: expected a divisor of d_model \(64\)"),
    ("swin", {"window": 7}, "window is 7: expected a divisor of .*8 and 4 tokens; try 4"),
    ("swin", {"image_size": 28, "depths": [2, 2]}, r"depths is \(2, 2\): expected at most 1 stages"),
    ("vit", {"augment": "no"}, "augment is 'no': expected True or False"),
    ("swin", {"depths": "24"}, "depths is '24': expected the blocks of each stage"),
    ("swin", {"attention": "focused"}, "attention is 'focused': .*try model='flatten-swin'"),
    ("flatten-swin", {"attention": "softmax"}, "attention is 'softmax': expected 'focused'"),
    ("vit", {"text": "own.txt"}, "text is 'own.txt': expected none for the task 'fashion-mnist'"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_values_are_told_in_one_line(name, change, message):
    with pytest.raises(ValueError, match=message) as error:
        Run(preset(name, **change))
    assert "\n" not in str(error.value)


def test_a_model_of_images_writes_no_text():
    with pytest.raises(ValueError, match="task is 'fashion-mnist': expected 'text' to write some"):
        Run(tiny("vit")).generate()


def test_a_snapshot_of_another_model_is_refused():
    snapshot = Run(tiny("swin")).snapshot()
    with pytest.raises(ValueError, match="model is 'swin' in the snapshot: expected 'vit'"):
        Run(tiny("vit")).restore(snapshot)
    with pytest.raises(ValueError, match="window is 2 in the snapshot: expected 4"):
        Run(tiny("swin", window=4, depths=(2,))).restore(Run(tiny("swin", depths=(2,))).snapshot())


def test_a_config_is_kept_as_plain_values():
    config = RunConfig(**json.loads(json.dumps(tiny("swin", depths=[2, 2]).to_dict())))
    assert config == tiny("swin")
    assert config.depths == (2, 2)
