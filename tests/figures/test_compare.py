"""The picture of a comparison says what the verdicts say."""

import pytest

from course_lib import preset
from course_lib.figures.comparison import compare_figure, finding
from course_lib.figures.palette import ARM_COLORS
from course_lib.studies.arms import LABELS
from course_lib.studies.compare_arms import ArmResult, compare


@pytest.fixture(scope="module")
def results():
    sizes = {"d_model": 16, "heads": 2, "context": 8, "batch": 4, "steps": 12, "probe_every": 3}
    return list(compare(preset("live", **sizes), warmup=4))


def test_the_title_states_the_verdicts(results):
    title = finding(results)
    for result in results:
        assert f"{LABELS[result.arm]}: does not learn ({result.run.verdict().name})" in title
    assert compare_figure(results)._suptitle.get_text().startswith(title)


def test_panels_have_labelled_axes_and_the_text_its_reference_lines(results):
    figure = compare_figure(results)
    for axes in figure.axes:
        assert axes.get_xlabel() == "step"
        assert axes.get_ylabel()
        assert axes.get_title()
    marks = {text.get_text() for text in figure.axes[0].texts}
    assert marks == {"unigram", "bigram", "trigram", "4-gram"}
    assert [text.get_text() for text in figure.axes[3].texts] == ["τ = 0.05"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [LABELS[r.arm] for r in results]


def test_one_colour_an_arm_in_every_panel(results):
    for axes in compare_figure(results).axes:
        drawn = [line.get_color() for line in axes.lines if len(line.get_xdata()) > 2]
        assert drawn == [ARM_COLORS[result.arm] for result in results]


def test_runs_without_probes_still_have_their_losses():
    base = preset("copy", d_model=16, heads=2, context=8, batch=4, steps=3, probe_every=0)
    results = list(compare(base, ["adamw"], warmup=0))
    assert isinstance(results[0], ArmResult)
    assert len(compare_figure(results).axes[0].lines) == 3  # the loss and two references


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="results is empty"):
        compare_figure([])
