"""Pictures of lectures: what is given is what is drawn."""

from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from diffusion_edu.viz import plots

X = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
T = torch.linspace(0, 1, 20)
PICTURES = {
    "clouds": lambda: plots.clouds([X, X / 2, X / 4], ["a", "b", "c"], behind=X, colour=X[:, 0]),
    "strip": lambda: plots.strip(torch.zeros(3, 1, 4, 4), ["a", "b", "c"]),
    "rows": lambda: plots.strip(torch.zeros(2, 3, 3, 4, 4), ["a", "b", "c"], rows=["x", "y"]),
    "lines": lambda: plots.lines(T, {"a": T, "b": T**2}, "t", "y", errors={"a": T / 9}),
    "bars": lambda: plots.bars(["a", "b"], {"x": [1, 2], "y": [2, 1]}, "z"),
    "histogram": lambda: plots.histogram({"a": X[:, 0], "b": X[:, 1]}, "x", density=(T, T)),
    "heat": lambda: plots.heat([[1.0, 2], [3, 4]], ["a", "b"], ["c", "d"], title="z", log=True),
    "paths": lambda: plots.paths({"a": X.view(10, 20, 2), "b": X.view(10, 20, 2)}, behind=X),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_png_and_say_in_words_what_they_show(name):
    picture = PICTURES[name]()
    pixels = imread(BytesIO(picture._repr_png_()))
    assert pixels[..., :3].std() > 0.01
    assert repr(picture).strip()
    assert "a" in repr(picture)


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
