"""Pictures of lectures: what is given is what is drawn."""

import re
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from matplotlib.text import Text

from diffusion_edu.viz import plots

X = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
T = torch.linspace(0, 1, 20)
AB, CD, WALK = ["left", "right"], ["red", "blue"], X.view(10, 20, 2)
PICTURES = {
    "clouds": lambda: plots.clouds([X, X / 2], AB, behind=X, colour=X[:, 0]),
    "strip": lambda: plots.strip(torch.zeros(2, 1, 4, 4), AB),
    "rows": lambda: plots.strip(torch.zeros(2, 2, 3, 4, 4), AB, rows=CD),
    "lines": lambda: plots.lines(T, dict.fromkeys(AB, T), "hour", "mass", errors={"left": T / 9}),
    "bars": lambda: plots.bars(CD, {"left": [1, 2], "right": [2, 1]}, "mass"),
    "histogram": lambda: plots.histogram(dict.fromkeys(AB, X[:, 0]), "mass", density=(T, T)),
    "heat": lambda: plots.heat([[1.0, 2], [3, 4]], AB, CD, title="mass", log=True),
    "paths": lambda: plots.paths({"left": WALK, "right": WALK}, behind=X),
}
SAID = {"clouds": AB, "strip": AB, "rows": [*AB, *CD], "lines": [*AB, "hour", "mass"],
        "bars": [*AB, *CD, "mass"], "histogram": [*AB, "mass"], "heat": [*AB, *CD, "mass"],
        "paths": AB}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_png_and_say_in_words_what_they_show(name):
    """Every title and label given is written in the picture, and a word of the sentence for it."""
    picture = PICTURES[name]()
    pixels = imread(BytesIO(picture._repr_png_()))
    assert pixels[..., :3].std() > 0.01
    written = {text.get_text() for text in picture.figure.findobj(Text) if text.get_visible()}
    assert set(SAID[name]) <= set(re.findall(r"\w+", repr(picture)))
    assert set(SAID[name]) <= written


def test_lines_draws_the_numbers_it_is_given():
    axis = plots.lines(T, {"a": T, "b": T**2}, "t", "y", log="y").figure.axes[0]
    a, b = axis.get_lines()
    np.testing.assert_allclose(a.get_ydata(), T)
    np.testing.assert_allclose(b.get_ydata(), T**2)
    assert axis.get_yscale() == "log"
    assert a.get_color() != b.get_color()
    assert a.get_linestyle() != b.get_linestyle()  # told apart without colour too


def test_curves_may_have_an_x_of_their_own():
    xs = {"a": T, "b": T[:5]}
    axis = plots.lines(xs, {"a": T, "b": T[:5]}, "t", "y").figure.axes[0]
    assert [len(line.get_xdata()) for line in axis.get_lines()] == [20, 5]


def test_heat_writes_every_number_readably():
    axis = plots.heat([[1.0, 20], [300, 4000]], ["a", "b"], ["c", "d"], log=True).figure.axes[0]
    assert [t.get_text() for t in axis.texts] == ["1", "20", "300", "4e+03"]
    assert [t.get_color() for t in axis.texts] == ["white", "white", "black", "black"]


def test_strip_shows_bytes_as_they_are_and_clips_floats():
    bytes_ = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    shown = plots.strip(bytes_).figure.axes[0].get_images()[0].get_array()
    np.testing.assert_array_equal(shown[1:-1, 1:-1], bytes_[0, 0])
    bright = plots.strip(torch.full((1, 1, 2, 2), 7.0)).figure.axes[0].get_images()[0].get_array()
    assert (np.asarray(bright)[1:-1, 1:-1] == 255).all()


def test_clouds_share_their_axes():
    axes = plots.clouds([X, X / 4], ["a", "b"]).figure.axes
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert np.shape(axes[1].collections[0].get_offsets()) == (200, 2)
