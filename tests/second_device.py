"""A stand-in for a GPU, where there is none: what must not meet a tensor of the CPU is found.

    with second_device():
        x = torch.zeros(3, device="cuda")
        x + torch.zeros(3)  # RuntimeError: Expected all tensors to be on the same device

Tensors "on cuda:0" are tensors of the CPU with a mark. Every operation looks at the marks of what
it is given, computes on the CPU with real arithmetic, and marks its result. So what is computed
there is equal, bit for bit, to what is computed here, and the wrong device is an error:

- tensors of two devices meet (a number, 0-dim, of the CPU may meet others, as on a GPU);
- a tensor of the CPU is indexed by one of the device, or is put at such places of the other;
- a generator of one device draws for the other. Generators know their device, and the state of the
  device's have another length. Without one, numbers come from the device's own global generator;
- a tensor of the device becomes an array of numpy. Into a file it goes as one of the CPU.

What it does not imitate: kernels and what they round otherwise or lack (an operation without
float64, for one), memory and its order, transfers and their time, streams, more than one GPU, NCCL.
torch.compile does nothing, autocast is the CPU's. Only the thread that entered the block sees the
device. What one operation does inside, a backward pass for one, is not looked at. Operations that
read only the shape of their second tensor are a list below, OF_THE_FIRST: one that is missing there
is refused here though a GPU admits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import diffusion_edu as de
from diffusion_edu.data import Loader

__all__ = ["CHAIN", "T", "Toy", "ends", "on_both", "same", "second_device", "small"]

MARK = "_on_the_second_device"
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
AnyGenerator = torch.Generator  # the class as it is outside of the block

# What lies where: read from the mark, not from the tensor.
GETTERS: dict[Any, Callable[[Tensor], Any]] = {
    Tensor.device.__get__: lambda x: GPU if on(x) else CPU,
    Tensor.is_cuda.__get__: lambda x: on(x),  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda x: not on(x),  # type: ignore[attr-defined]
}
SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
MOVES = {"to", "cpu", "cuda", "type_as", "as_tensor", "asarray"}
# Of these the first tensor decides; of the others only shapes or values are read.
OF_THE_FIRST = {"__deepcopy__", "_has_compatible_shallow_copy_type", "backward", "copy_",
                "expand_as", "reshape_as", "view_as"}  # fmt: skip
JOINS = {"cat", "concat", "hstack", "stack", "vstack"}  # not even a number of another device
TO_NUMPY = {"__array__", "__dlpack__", "numpy"}
RANDOM = {"bernoulli", "bernoulli_", "dropout", "multinomial", "normal", "normal_", "rand",
          "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm",
          "uniform_"}  # fmt: skip


def on(x: object) -> bool:
    """Whether x is a tensor of the second device."""
    return isinstance(x, Tensor) and MARK in x.__dict__


def put(x: Tensor, there: bool) -> Tensor:
    """Mark x as lying on the second device, or not. In place."""
    if there:
        x.__dict__[MARK] = True
    else:
        x.__dict__.pop(MARK, None)
    return x


def means(device: object) -> bool:
    """Whether ``device`` names the second device. RuntimeError for a third one."""
    found = torch.device(device)  # type: ignore[call-overload]
    if found.type == "cuda" and found.index not in (None, 0):
        raise RuntimeError(f"CUDA error: invalid device ordinal {found}")
    return found.type == "cuda"


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among values, and in lists and tuples of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


class Generator(torch.Generator):
    """A generator that knows its device, with the numbers of the CPU's."""

    there: bool

    def __new__(cls, device: Any = "cpu") -> Generator:
        """Of the CPU for torch, which draws there."""
        made = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        made.there = means(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU if self.there else CPU

    def get_state(self) -> Tensor:
        """On the device one byte longer: it cannot be taken for the other's."""
        return torch.cat([super().get_state(), torch.zeros(int(self.there), dtype=torch.uint8)])

    def set_state(self, state: Tensor) -> Generator:
        """RuntimeError for the state of a generator of the other device."""
        if state.shape != self.get_state().shape:
            raise RuntimeError("RNG state is wrong size")
        super().set_state(state[: len(state) - self.there].clone())
        return self


class SecondDevice(TorchFunctionMode):
    """Checks and carries the marks of all operations; ``drawn`` is the global generator there."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = Generator("cuda")

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Within this call the mode is off: what ``func`` does inside is not looked at again."""
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func in GETTERS:
            return GETTERS[func](args[0])
        if func == SET_DATA:
            put(args[0], on(args[1]))
            return func(*args)
        if name in TO_NUMPY and on(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
        if name == "__reduce_ex__":
            return reduced(func, args)
        if name in MOVES:
            return moved(func, name, args, kwargs)
        there = result_place(name, args, kwargs)
        if there and "device" in kwargs:
            kwargs["device"] = CPU
        drawing = there and name in RANDOM and not generators(args, kwargs)
        with drawing_from(self.drawn) if drawing else nullcontext():
            return marked(func(*args, **kwargs), there)


def result_place(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the result of an operation lies there; RuntimeError where devices do not mix."""
    if kwargs.get("device") is not None:
        there = means(kwargs["device"])
    elif name in OF_THE_FIRST:
        there = on(args[0])
    elif name in ("__getitem__", "__setitem__"):
        there = indexed_place(*args)
    else:
        there = common_place(name, list(tensors((*args, *kwargs.values()))))
    for generator in generators(args, kwargs):
        if (generator.device.type == "cuda") != there:
            raise RuntimeError(
                f"Expected a {'cuda' if there else 'cpu'!r} device type for generator but found "
                f"{generator.device.type!r} (in {name})"
            )
    return there


def common_place(name: str, given: list[Tensor]) -> bool:
    """Where all of ``given`` lie, numbers of the CPU apart, if these are not changed in place."""
    there = any(map(on, given))
    in_place = name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
    strict = [x for x in given if x.ndim or name in JOINS or (in_place and x is given[0])]
    if there and not all(map(on, strict)):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! (in {name})"
        )
    return there


def indexed_place(x: Tensor, index: Any, value: Any = None) -> bool:
    """Where x[index] lies, or x[index] = value is possible."""
    rows = [i for i in tensors([index]) if i.ndim]
    if any(map(on, rows)) and not on(x):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )
    if rows and isinstance(value, Tensor):
        common_place("index_put_", [x, value] if value.ndim else [x])
    return on(x)


def generators(args: Any, kwargs: dict[str, Any]) -> list[torch.Generator]:
    """The generators among the arguments."""
    return [v for v in (*args, *kwargs.values()) if isinstance(v, AnyGenerator)]


def moved(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """The result of an operation that may move its first argument: then it shares no memory."""
    source, *rest = args
    named = [v for v in (*rest, kwargs.get("device")) if isinstance(v, str | torch.device)]
    if name in ("cpu", "cuda"):
        there, func, rest = name == "cuda", Tensor.to, [CPU]
    elif named:
        there = means(named[0])
    else:
        there = any(map(on, tensors(rest))) if list(tensors(rest)) else on(source)
    rest = [CPU if isinstance(v, str | torch.device) else v for v in rest]
    kwargs |= {"device": CPU} if kwargs.get("device") is not None else {}
    found = func(source, *rest, **kwargs)
    return put(found if there == on(source) else found.clone(), there)


def marked(result: Any, there: bool) -> Any:
    """``result`` with its tensors marked; those of an iterator too."""
    if isinstance(result, Iterator):
        return iter([put(x, there) for x in result])
    for x in tensors([result]):
        put(x, there)
    return result


def reduced(func: Any, args: Any) -> Any:
    """What pickle, and so torch.save, writes: without the mark."""
    there = on(args[0])
    put(args[0], False)
    try:
        return func(*args)
    finally:
        put(args[0], there)


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Within the block torch's global generator goes on where ``generator`` is, and moves it."""
    default, state = torch.default_generator, torch.default_generator.get_state()
    default.set_state(AnyGenerator.get_state(generator))
    try:
        yield
    finally:
        AnyGenerator.set_state(generator, default.get_state())
        default.set_state(state)


@contextmanager
def second_device() -> Iterator[None]:
    """Within the block "cuda" is the second device; after it torch is as it was."""
    mode, autocast, make = SecondDevice(), torch.autocast, Tensor._make_subclass

    def make_subclass(cls: Any, data: Tensor, requires_grad: bool = False) -> Tensor:
        """A parameter of the device, and a copy of one, lies there: no operation makes it."""
        return put(make(cls, data, requires_grad), on(data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "_make_subclass", staticmethod(make_subclass))
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "autocast", lambda device, *a, **k: autocast("cpu", *a, **k))
        patch.setattr(torch, "compile", lambda model, **_: model)
        for name, answer in cuda(mode.drawn).items():
            patch.setattr(torch.cuda, name, answer)
        with mode:
            yield


def cuda(drawn: Generator) -> dict[str, Callable[..., Any]]:
    """What replaces functions of ``torch.cuda``."""
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "set_device": means,
        "device": lambda device: nullcontext(),
        "is_current_stream_capturing": lambda: False,
        "manual_seed": drawn.manual_seed,
        "manual_seed_all": drawn.manual_seed,
        "get_rng_state": lambda device=None: drawn.get_state(),
        "set_rng_state": lambda state, device=None: drawn.set_state(state),
    }


# ---- the same work on both devices ---------------------------------------------------------------

T = 12
CHAIN = de.linear(T)


class Toy:
    """The same points, network and generator wherever ``where`` is.

    Args:
        where: "cpu" or "cuda".
        drawn: where the generator lives: "there", on the "cpu", or "global", which is none.
        times: t and s < t are ints, "int", or tensors "there" or on the "cpu", or one on "each".
    """

    def __init__(self, where: str, drawn: str = "cpu", times: str = "there") -> None:
        self.where = where
        self.x, self.y, self.z = (self.cloud(4, seed=seed) for seed in range(3))
        self.half = torch.tensor([0.9, 0.5]).to(where)
        self.net = small(de.MLP(width=8, depth=1, T=T, num_classes=4)).to(where)
        self.g = torch.Generator(where if drawn == "there" else "cpu").manual_seed(1)
        self.how: dict[str, Any] = {"generator": None if drawn == "global" else self.g}
        t = torch.tensor([5, 1, T, 7])
        self.t: Any = 5 if times == "int" else t.to("cpu" if times == "cpu" else where)
        self.s: Any = 4 if times == "int" else (t - 1).to(where if times == "there" else "cpu")
        torch.manual_seed(0)  # of all devices: for what is drawn without a generator

    def cloud(self, n: int = 60, d: int = 2, seed: int = 4) -> Tensor:
        """n seeded points of d dimensions."""
        return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).to(self.where)

    def images(self, channels: int = 1) -> Tensor:
        """Four seeded images (4, C, 8, 8) uint8."""
        return (self.cloud(4, channels * 64) * 80 + 128).clamp(0, 255).byte().view(4, -1, 8, 8)

    def loader(self) -> Loader:
        """The same images, padded, half of them mirrored."""
        names = tuple("abcd")
        data = de.images.ImageSet(self.images().cpu(), torch.arange(4), names)
        return Loader(data, self.where, flip=True, pad=2)

    def two(self, x: Tensor, t: Tensor) -> Tensor:
        """A network with learned variance."""
        return torch.cat([self.net(x, t), self.net(-x, t)], 1)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """That of N(0, I), whatever t is."""
        return -x

    def mixture(self) -> de.MixtureOracle:
        """The oracle of a toy set, its parameters there."""
        means, variances, weights = (v.to(self.where) for v in de.toy.gaussians_mixture())
        return de.MixtureOracle(means, variances, weights, CHAIN)

    def walk(self, net: Any = None, taus: Any = 4, **how: Any) -> list[Tensor]:
        """What ``sample`` finds on its way from x."""
        return ends(de.sample(net or self.net, self.x, CHAIN, taus, **how))

    def fill_in(self, **how: Any) -> Tensor:
        """The second coordinates that the network gives to known first ones."""
        mask = torch.tensor([[True, False]]).to(self.where)
        return de.fill_in(self.net, self.x, self.y, de.pixels(mask), CHAIN, 4, **how)


def ends(steps: Iterable[Any]) -> list[Tensor]:
    """Predictions and state after each step."""
    return [x for step in steps for x in (step.x0, step.eps, step.x_s)]


def small(net: nn.Module) -> Any:
    """``net`` with seeded weights, none of them zero."""
    g = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2, generator=g)
    return net.eval()


def same(compute: Callable[[Toy], Any], on: str = "cuda", **how: str) -> None:
    """``compute`` gives the same, bit for bit, with everything on the second device.

    Its results lie on ``on``: "cpu" for those few that stay there by design.
    """
    with torch.random.fork_rng():
        here = list(tensors([compute(Toy("cpu", **how))]))
        with second_device():
            there = list(tensors([compute(Toy("cuda", **how))]))
            places = {x.device.type for x in there}
            there = [x.cpu() for x in there]
    assert places == {on}
    for a, b in zip(there, here, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def on_both(work: Callable[[str], Any]) -> None:
    """Numbers, files and pictures, which lie nowhere, are the same: work("cpu"), work("cuda")."""
    with torch.random.fork_rng():
        here = work("cpu")
        with second_device():
            assert work("cuda") == here
