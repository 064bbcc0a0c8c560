"""The lectures: what stands under each title, in the index and in the notebooks' README."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SYLLABUS", "Lecture", "lecture"]


@dataclass(frozen=True)
class Lecture:
    """One lecture.

    Attributes:
        number: "00" to "11".
        slug: the rest of the file's name.
        title: as in its first heading.
        about: one sentence.
        minutes: for a lecturer who shows it all, cards included.
        needs: numbers of the lectures that come before.
        exercise: what to do afterwards, "E2"; empty: nothing.
    """

    number: str
    slug: str
    title: str
    about: str
    minutes: int
    needs: tuple[str, ...] = ()
    exercise: str = ""

    @property
    def name(self) -> str:
        """02_jump_to_any_t."""
        return f"{self.number}_{self.slug}"


SYLLABUS = (
    Lecture("00", "tour", "A tour of diffusion, in pictures", "All the pictures, no formula.", 20),
    Lecture(
        "01",
        "forward_process",
        "Noise, one step at a time",
        "The Markov chain that turns data into noise, and why its variance stays 1.",
        45,
        (),
        "E1",
    ),
    Lecture(
        "02",
        "jump_to_any_t",
        "Jump to any t",
        "All steps in one: alpha-bar, the signal-to-noise ratio, and the shapes of schedules.",
        50,
        ("01",),
        "E2",
    ),
    Lecture(
        "03",
        "posterior",
        "One step back, by Bayes' rule",
        "Where was the point before this step, if we know where it began?",
        60,
        ("02",),
        "E3",
    ),
    Lecture(
        "04",
        "elbo",
        "From the likelihood to a loss",
        "The evidence lower bound in twelve steps, its three terms, and what L_simple leaves out.",
        75,
        ("03",),
        "E4",
    ),
    Lecture(
        "05",
        "training",
        "Train a noise predictor",
        "The training step, what the network may predict, averaged weights, learned variance.",
        75,
        ("04",),
        "E5",
    ),
    Lecture(
        "06",
        "ddpm_sampling",
        "Walk back: DDPM",
        "Ancestral sampling, the noise it adds, clipping, and what is decided when.",
        60,
        ("05",),
        "E6",
    ),
    Lecture(
        "07",
        "ddim",
        "Fewer steps: DDIM",
        "A posterior designed anew: same marginals, any amount of noise, any number of steps.",
        75,
        ("06",),
        "E7",
    ),
    Lecture(
        "08",
        "inversion_and_interpolation",
        "There and back again",
        "What a deterministic sampler is good for: inversion, reconstruction, interpolation.",
        50,
        ("07",),
        "E8",
    ),
    Lecture(
        "09",
        "scores",
        "Scores, and time without steps",
        "The noise is the score: score matching, Langevin dynamics, SDE and ODE.",
        75,
        ("07",),
        "E9",
    ),
    Lecture(
        "10",
        "images_and_guidance",
        "Images, and what they should show",
        "The U-Net, guidance without a classifier, colourising and repairing pictures.",
        60,
        ("07", "09"),
        "E9",
    ),
    Lecture(
        "11",
        "evaluation",
        "Is it any good?",
        "Distances between samples and data, their bias, and what each of them misses.",
        60,
        ("07",),
        "E9",
    ),
)


def lecture(number: str) -> Lecture:
    """The lecture with this number.

    Raises:
        ValueError: there is none; the message lists them.
    """
    for one in SYLLABUS:
        if one.number == number:
            return one
    raise ValueError(f"no lecture {number!r}: there are {', '.join(x.number for x in SYLLABUS)}")
