"""The in-memory loader: exactly the images asked for, at random but reproducibly."""

import math

import pytest
import torch

from diffusion_edu.data import images
from diffusion_edu.data.images import ImageSet
from diffusion_edu.data.loader import Loader


def numbered(n: int = 50, side: int = 4) -> ImageSet:
    """Image k: column j of every channel holds (k + j) mod 256; label k mod 10."""
    k, j = torch.arange(n)[:, None, None, None], torch.arange(side)
    pixels = ((k + j) % 256).expand(n, 2, side, side).to(torch.uint8)
    return ImageSet(pixels.contiguous(), torch.arange(n) % 10, tuple("0123456789"))


def test_loader_takes_what_was_asked(device):
    """take(index, flip): x = u/127.5 - 1 of exactly those images, mirrored where flip says so."""
    data = numbered()
    loader = Loader(data, device)
    index = torch.tensor([3, 3, 49, 0])
    flip = torch.tensor([False, True, True, False])
    x, y = (v.cpu() for v in loader.take(index, flip))
    expected = images.to_float(data.images[index])
    expected[flip] = expected[flip].flip(-1)
    assert torch.equal(x, expected)
    assert torch.equal(y, data.labels[index])
    assert not torch.equal(x[0], x[1])


def test_loader_is_a_function_of_the_generator(device):
    """Same generator state, same batches, on every device; the state is all a resume needs."""
    loader, here = Loader(numbered(), device, flip=True), Loader(numbered(), flip=True)
    g = torch.Generator().manual_seed(5)
    loader.draw(7, g)
    saved = g.get_state()
    before = torch.get_rng_state()
    x, y = loader.take(*loader.draw(7, g))
    assert torch.equal(before, torch.get_rng_state())
    g.set_state(saved)
    x2, y2 = here.take(*here.draw(7, g))
    assert torch.equal(x.cpu(), x2)
    assert torch.equal(y.cpu(), y2)
    assert x.device.type == device


def test_shares_of_a_joint_batch():
    """Slices of one draw, taken apart, are the joint batch: what several processes rely on."""
    loader = Loader(numbered(), flip=True)
    g = torch.Generator().manual_seed(1)
    index, flip = loader.draw(12, g)
    x, y = loader.take(index, flip)
    parts = [loader.take(index[r::3], flip[r::3]) for r in range(3)]
    for r, (xr, yr) in enumerate(parts):
        assert torch.equal(xr, x[r::3])
        assert torch.equal(yr, y[r::3])


def test_draws_are_uniform_and_flips_fair():
    """Indices uniform on 0..N-1 (chi^2 within 5 sigma of N-1), flips fair and only if asked."""
    n, total = 50, 100_000
    g = torch.Generator().manual_seed(0)
    index, flip = Loader(numbered(n), flip=True).draw(total, g)
    counts = index.bincount(minlength=n).double()
    chi2 = float(((counts - total / n) ** 2 / (total / n)).sum())
    assert abs(chi2 - (n - 1)) < 5 * math.sqrt(2 * (n - 1))
    assert abs(float(flip.double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(total)
    assert abs(float(torch.corrcoef(torch.stack([index, flip]).double())[0, 1])) < 0.02
    _, none = Loader(numbered(n)).draw(total, g)
    assert not none.any()


def test_padding():
    """pad=2 puts -1 around the untouched image; without ``flip`` it is taken as it is."""
    data = numbered(50, 28)
    loader = Loader(data, pad=2, flip=True)
    assert loader.shape == (2, 32, 32)
    x, y = loader.take(torch.arange(50))
    assert torch.equal(x[:, :, 2:-2, 2:-2], images.to_float(data.images))
    assert torch.equal(y, data.labels)
    x[:, :, 2:-2, 2:-2] = -1
    assert (x == -1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Loader(ImageSet(torch.zeros(3, 1, 4, 4), torch.zeros(3), ())), "uint8"),
        (lambda: Loader(ImageSet(numbered().images, torch.zeros(3), ())), r"\(50,\)"),
        (lambda: Loader(numbered(), pad=-1), "pad"),
        (lambda: Loader(numbered()).draw(0), "n must be"),
        (lambda: Loader(ImageSet(numbered().images[:0], torch.zeros(0), ())), "non-empty"),
    ],
)
def test_loader_errors(make, message):
    """Every wrong argument is a ValueError that names it."""
    with pytest.raises(ValueError, match=message):
        make()
