"""What check() draws, and what it says of functions that give another result each time."""

from __future__ import annotations

import itertools

import pytest
import torch

from diffusion_edu.exercises import checking, load, names
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace
from diffusion_edu.viz.checks import RIGHT, WRONG, yours_against_reference

pytestmark = pytest.mark.filterwarnings("error")


# ---- asked twice ---------------------------------------------------------------------------------


def judged(function):
    return judge(load("E2"), Namespace({"snr": function}), only=["snr"])


def test_wrong_numbers_are_asked_for_again():
    """A right function is called once for each input; a wrong one twice for the first it fails."""
    calls = []

    def right(sch):
        calls.append(1)
        return sch.alpha_bar / (1 - sch.alpha_bar)

    assert judged(right)[0].status == "passed"
    assert len(calls) == 3  # one for each public world
    calls.clear()
    (result,) = judged(lambda sch: 1 / right(sch))
    assert result.mistake == "inverted"
    assert "largest difference" in result.message
    assert len(calls) == 6


def test_no_name_for_noise():
    """Noise of one's own is said; a mistake has no part in it, though its numbers come up once."""
    numbers = iter(range(100))

    def drifting(sch):
        return sch.alpha / (1 - sch.alpha) + next(numbers)  # the first is that of snr_of_one_step

    (result,) = judged(drifting)
    assert (
        result.message == "8 points: it gives another result each time it is called: does it "
        "draw noise of its own?"
    )
    assert result.mistake is None
    answers = iter([3.0])

    def once(sch):
        return sch.alpha_bar * next(answers)

    (result,) = judged(once)
    assert "largest difference" in result.message  # the second call raised: nothing is known of it


# ---- what it draws -------------------------------------------------------------------------------


def test_picture_of_the_world_that_shows_it():
    """Right for points and wrong for images only: it is the images that are drawn."""
    right = load("E2").function("q_sample").reference
    for wrong_from, shape in ((3, (4, 1, 8, 8)), (9, (8, 2))):

        def q_sample(x0, *others, n=wrong_from):
            return right(x0, *others) + (x0.ndim > n - 1)

        pairs = checking.comparisons(load("E2"), {"q_sample": q_sample}, ["q_sample"])
        ((yours, wanted),) = pairs["q_sample"]
        assert yours.shape == shape
        assert (yours - wanted - float(wrong_from == 3)).abs().max() < 1e-5


def lines(axes):
    """Number of points for each marker, and the colour."""
    return {x.get_marker(): (len(x.get_xdata()), x.get_color()) for x in axes.lines}


def test_panels():
    """Three at most, wrong ones first; crosses where the numbers differ; all else is said."""
    w = torch.linspace(0, 1, 9)
    off = w.clone()
    off[:4] += 0.5
    gone = torch.where(w > 0.9, torch.nan, w)
    top = torch.where(w > 0.9, torch.inf, w)
    pairs = {"a": [(w, w)], "b": [(off, w), (w, w)], "c": [(w, w)], "d": [(gone, w)], "e": []}
    figure = yours_against_reference({**pairs, "f": [(top, top)]})
    first, second, third = figure.axes
    assert [x.get_title() for x in figure.axes] == [
        "b\n4 of 18 differ", "d\n1 of 9 differ", "a\nall 9 agree",
    ]  # fmt: skip
    assert [t.get_text() for x in figure.axes for t in x.texts] == ["1 not finite"]
    assert lines(first)["o"] == (14, RIGHT)
    assert lines(first)["x"] == (4, WRONG)
    assert lines(second)["o"][0] == 8
    assert lines(second)["x"][0] == 0
    assert lines(third)["x"][0] == 0
    assert [x.get_text() for x in figure.texts] == ["2 more not drawn"]
    assert figure.texts[0].get_window_extent().x1 <= figure.bbox.x1
    close = {"a": [(w + 3e-5, w)]}
    assert "all" in yours_against_reference(close).axes[0].get_title()
    assert "9 of 9" in yours_against_reference(close, {"a": 1e-5}).axes[0].get_title()


@pytest.mark.parametrize("n", [1, 3, 6])
def test_labels_fit(n):
    """No title, number or label is cut off or lies on another, for the longest names there are."""
    longest = sorted((f.name for key in names() for f in load(key).functions), key=len)[-n:]
    w = torch.randn(500, generator=torch.Generator().manual_seed(0)) * 1000
    figure = yours_against_reference({name: [(-w, w), (w / 0, w)] for name in longest})
    figure.canvas.draw()
    panels = [axes.get_tightbbox() for axes in figure.axes]
    assert len(panels) == min(n, 3)
    assert all(p.x0 >= 0 and p.x1 <= figure.bbox.x1 and p.y0 >= 0 for p in panels)
    assert all(p.y1 <= figure.bbox.y1 for p in panels)
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(panels))
