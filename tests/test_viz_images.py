"""Sheets of images hold the very pixels; the curves of a run can be drawn whatever is missing."""

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from diffusion_edu.viz import curves
from diffusion_edu.viz.curves import save_curves
from diffusion_edu.viz.images import save_image, tile


def some_images(n, channels=3, height=4, width=5):
    g = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, channels, height, width), dtype=torch.uint8, generator=g)


# ---- images --------------------------------------------------------------------------------------


@given(
    n=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    columns=st.integers(1, 11),
    gap=st.integers(0, 3),
)
def test_pixels_of_the_sheet_are_those_of_the_images(n, channels, columns, gap):
    """Image i stands in row i // columns, column i mod columns; all the rest is white."""
    images = some_images(n, channels)
    sheet = tile(images, columns, gap)
    rows = -(-n // columns)
    assert sheet.shape == (channels, rows * (4 + gap) + gap, columns * (5 + gap) + gap)
    rest = sheet.clone()
    for i, image in enumerate(images):
        top, left = gap + i // columns * (4 + gap), gap + i % columns * (5 + gap)
        assert sheet[:, top : top + 4, left : left + 5].equal(image)
        rest[:, top : top + 4, left : left + 5] = 255
    assert (rest == 255).all()


def test_about_as_many_columns_as_rows():
    """Five images without a word about columns: two rows of three."""
    assert tile(some_images(5), gap=0).shape == (3, 2 * 4, 3 * 5)


@pytest.mark.parametrize(("channels", "zoom"), [(1, 1), (3, 1), (1, 4), (3, 3)])
def test_the_file_holds_the_pixels(tmp_path, channels, zoom):
    """Read back, every pixel is a block of zoom x zoom of its colour; grey images are grey."""
    image = some_images(1, channels)[0]
    path = tmp_path / "new" / "sheet.png"
    save_image(image, path, zoom)
    found = np.rint(imread(path)[..., :3] * 255).astype(np.uint8)
    wanted = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    assert (found == wanted.repeat(zoom, 0).repeat(zoom, 1)).all()
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]


def test_what_is_no_image_is_named(tmp_path):
    """Floats, no images, other shapes, impossible numbers."""
    for bad in (some_images(2).float(), some_images(2)[0], some_images(2)[:0]):
        with pytest.raises(ValueError, match=r"images must be uint8 \(n >= 1, C, H, W\), got"):
            tile(bad)
    with pytest.raises(ValueError, match="columns must be an int >= 1, got columns=0"):
        tile(some_images(2), 0)
    with pytest.raises(ValueError, match="gap must be an int >= 0"):
        tile(some_images(2), gap=-1)
    with pytest.raises(ValueError, match="zoom must be an int >= 1"):
        save_image(some_images(1)[0], tmp_path / "x.png", 0)
    for bad in (some_images(1), some_images(1, 2)[0], some_images(1)[0].float()):
        with pytest.raises(ValueError, match=r"image must be uint8 \(1 or 3, H, W\)"):
            save_image(bad, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


# ---- curves --------------------------------------------------------------------------------------


def rows(n):
    """A log as training writes it."""
    return [
        {
            "step": 100 * i,
            "images": 6400 * i,
            "seconds": 60.0 * i,
            "loss": 0.03 + math.exp(-i),
            "validation": 0.04 + math.exp(-i),
            "lr": min(2e-4, 1e-4 * i),
            **{f"loss_{k}": 0.3 / k + math.exp(-i) for k in range(1, 11)},
        }
        for i in range(1, n + 1)
    ]


@pytest.fixture
def figures(monkeypatch):
    """The figures drawn, to look into."""
    made = []

    def keep(**options):
        made.append(Figure(**options))
        return made[-1]

    monkeypatch.setattr(curves, "Figure", keep)
    return made


def test_curves_are_the_columns(tmp_path, figures):
    """Losses over images on log axes, ten of them by time, the step size; labels on each."""
    log = rows(6)
    save_curves(log, tmp_path / "run" / "curves.png")
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    total, by_time, rate = figures[0].axes
    names = ["loss", "validation", *(f"loss_{k}" for k in range(1, 11)), "lr"]
    lines = [*total.lines, *by_time.lines, *rate.lines]
    assert len(lines) == len(names)
    for line, name in zip(lines, names, strict=True):
        assert list(line.get_xdata()) == [row["images"] for row in log]
        assert list(line.get_ydata()) == [row[name] for row in log]
    assert [axes.get_yscale() for axes in (total, by_time, rate)] == ["log", "log", "linear"]
    assert [text.get_text() for text in by_time.get_legend().get_texts()][::9] == [
        "0.0 to 0.1",
        "0.9 to 1.0",
    ]


def test_the_legend_of_ten_lines_covers_none(tmp_path, figures):
    """It stands beside the axes, inside the picture."""
    save_curves(rows(6), tmp_path / "curves.png")
    _, by_time, rate = figures[0].axes
    legend = by_time.get_legend().get_window_extent()
    assert legend.x0 >= by_time.get_window_extent().x1
    assert legend.x1 <= rate.get_window_extent().x0


@pytest.mark.parametrize("gap", [None, math.nan])
def test_missing_values_are_gaps(tmp_path, figures, gap):
    """None and NaN leave a hole, in one row, in a column, in all of them."""
    log = rows(4)
    log[1]["validation"] = gap
    for row in log:
        row["loss_3"] = gap
    save_curves(log, tmp_path / "a.png")
    total, by_time, _ = figures[0].axes
    assert np.isnan(total.lines[1].get_ydata()).tolist() == [False, True, False, False]
    assert np.isnan(by_time.lines[2].get_ydata()).all()
    nothing = [{k: gap if "loss" in k or k == "validation" else v for k, v in log[0].items()}]
    save_curves(nothing, tmp_path / "b.png")


@pytest.mark.parametrize("n", [1, 2, 200])
def test_few_records_are_seen_and_many_are_not_crowded(tmp_path, figures, n):
    """One record is a point, not an invisible line; 200 are lines without markers."""
    save_curves(rows(n), tmp_path / "c.png")
    marked = {line.get_marker() == "None" for axes in figures[0].axes for line in axes.lines}
    assert marked == {n >= 40}


def test_flat_curves_still_have_numbers(tmp_path, figures):
    """Late in training a loss stays within a few per cent: the axis has ticks inside it."""
    log = [
        {**row, "loss": 0.0301 + 1e-4 * i, "validation": 0.0302} for i, row in enumerate(rows(5))
    ]
    save_curves(log, tmp_path / "d.png")
    axes = figures[0].axes[0]
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3


def test_no_records_are_named(tmp_path):
    """An empty log is refused, and no file is left."""
    with pytest.raises(ValueError, match="rows must hold at least one record"):
        save_curves([], tmp_path / "e.png")
    assert list(tmp_path.iterdir()) == []


def test_threads_draw_at_the_same_time(tmp_path):
    """No global figure: four threads write four good pictures."""
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    threads = [threading.Thread(target=save_curves, args=(rows(5), path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path.read_bytes() for path in paths}) == 1
