"""diffusion-edu grade | doctor | gradescope-zip | exercise ..."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import exercises
from .._extras import need
from .._options import check_folder
from .defences import LEVELS, explain, policy, table

__all__ = ["doctor", "exercise_app", "grade", "gradescope_zip"]

exercise_app = typer.Typer(
    name="exercise",
    help="Exercises E1 to E9: list them, write the notebooks, prove them sound, add one.",
    no_args_is_help=True,
)


def _fail(text: str) -> typer.Exit:
    typer.secho(text, err=True, fg=typer.colors.RED)
    return typer.Exit(2)


def _load(key: str) -> exercises.Exercise:
    try:
        return exercises.load(key.upper())
    except ValueError as error:
        raise _fail(str(error)) from error


Submissions = Annotated[
    list[Path],
    typer.Argument(help="Folders, archives, notebooks or scripts; exports of Canvas or Moodle."),
]
Key = Annotated[str, typer.Option("--exercise", "-e", help="E1 ... E9.")]
Out = Annotated[Path, typer.Option(help="Folder of the reports.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes at once. [default: one a core]")]
Secret = Annotated[
    str,
    typer.Option(
        envvar="DIFFUSION_EDU_SECRET",
        help="Makes the hidden cases; any text that students do not know, the same every time.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on; grade nothing twice.")]
Require = Annotated[
    str, typer.Option(help="Refuse to grade behind weaker walls: strict, basic or none.")
]
Canvas = Annotated[bool, typer.Option("--canvas", help="Also canvas.csv.")]
Moodle = Annotated[bool, typer.Option("--moodle", help="Also moodle.csv.")]
Cluster = Annotated[str | None, typer.Option(help="Grade on a Dask cluster, tcp://host:port.")]


def grade(
    submissions: Submissions,
    exercise: Key,
    out: Out = Path("grades"),
    jobs: Jobs = None,
    secret: Secret = "",
    resume: Resume = False,
    require: Require = "none",
    canvas: Canvas = False,
    moodle: Moodle = False,
    cluster: Cluster = None,
) -> None:
    """Grade a whole class: scores, named mistakes, a page a student and one for the class.

    Submissions are read, not run: functions, imports and constants count, everything else in a
    notebook is left out. The functions run in processes of their own behind the strongest walls
    this machine has (`diffusion-edu doctor`).

    Examples:

    * `diffusion-edu grade submissions.zip --exercise E2 --secret "our course"`

    * `diffusion-edu grade class/ -e E2 --secret "our course" --out e2 --resume --canvas`
    """
    from . import reports
    from .submissions import find

    need("grade", "jinja2")
    spec = _load(exercise)
    _say_walls(require, cluster)
    _check_secret(secret)
    try:
        found = find(submissions, spec.key, leave=out)
    except ValueError as error:
        raise _fail(str(error)) from error
    report = _grade_with_progress(found, spec, out, jobs, secret, resume, require, cluster)
    files = reports.write(report, spec, out, canvas, moodle)
    _say(report, files)
    if any(r["status"] == "error" for r in report["submissions"]):
        raise typer.Exit(1)


def _say_walls(require: str, cluster: str | None) -> None:
    """Say behind which walls functions run; not if they are weaker than required."""
    if require not in LEVELS:
        raise _fail(f"--require must be one of {', '.join(LEVELS)}, got {require!r}")
    if cluster is not None:
        typer.echo("on a cluster")
        return
    walls = policy()
    if walls.is_weaker_than(require):
        raise _fail(
            f"--require {require}: this machine has level {walls.level!r}. {explain(walls)}"
        )
    typer.echo(f"level {walls.level}: {explain(walls)}")


def _check_secret(secret: str) -> None:
    """Warn if there is none, and refuse what is no text: bytes of the shell in another encoding."""
    if any("\ud800" <= c <= "\udfff" for c in secret):
        raise _fail("--secret is not UTF-8 text: use letters that this terminal writes as UTF-8")
    if not secret:
        typer.secho(
            "no --secret: students can compute the hidden cases too; take any text that they do "
            "not know, and the same one every time",
            fg="yellow",
            err=True,
        )


def _grade_with_progress(
    found: list[Any],
    spec: exercises.Exercise,
    out: Path,
    jobs: int | None,
    secret: str,
    resume: bool,
    require: str,
    cluster: str | None,
) -> dict[str, Any]:
    from tqdm import tqdm

    from .grading import Task
    from .run import grade_class

    check_folder("--out", out)
    tasks = [Task(s, spec.key, secret, require=require) for s in found]
    with tqdm(total=len(tasks), desc=f"grading {spec.key}", unit="submission", delay=1) as bar:
        try:
            return grade_class(
                tasks, out, jobs or os.cpu_count() or 1, cluster, resume, lambda row: bar.update()
            )
        except KeyboardInterrupt as stop:
            bar.close()
            typer.secho(
                f"stopped; {bar.n} of {len(tasks)} are kept in {out}: go on with --resume "
                "(those being graded now may take some seconds to end)",
                err=True,
            )
            raise typer.Exit(130) from stop
        except (ImportError, PermissionError) as error:
            raise _fail(str(error)) from error


def _say(report: dict[str, Any], files: list[Path]) -> None:
    rows = report["submissions"]
    graded = [r for r in rows if r["status"] == "graded"]
    mean = sum(r["score"] for r in graded) / max(len(graded), 1)
    typer.echo(f"{len(rows)} submissions, {len(graded)} graded, mean {mean:.1f} points")
    for row in rows:
        if row["status"] != "graded":
            typer.echo(f"  {row['id']}: {row['status']}, {row['reason']}")
    typer.echo("wrote " + ", ".join(str(f) for f in files))


def doctor() -> None:
    """Say which defences against hostile submissions are active on this machine.

    Examples:

    * `diffusion-edu doctor`
    """
    walls = policy()
    typer.echo(f"level {walls.level}: {explain(walls)}\n")
    for what, active, against in table(walls):
        typer.echo(f"  {'yes' if active else 'NO ':3}  {what:34} against {against}")


@exercise_app.command("list")
def _list_exercises() -> None:
    """List the exercises with their functions.

    Examples:

    * `diffusion-edu exercise list`
    """
    for key in exercises.names():
        spec = exercises.load(key)
        mistakes = sum(len(f.mistakes) for f in spec.functions)
        names = ", ".join(f.name + (" (find the bug)" if f.bug else "") for f in spec.functions)
        typer.echo(f"{key}  {spec.title}: lecture {spec.lecture}, {mistakes} named mistakes")
        typer.echo(f"    {names}")


@exercise_app.command("build")
def _build_exercises(
    keys: Annotated[list[str] | None, typer.Argument(help="E1 ... E9. [default: all]")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the students' notebooks.")] = Path(
        "notebooks/exercises"
    ),
    instructor: Annotated[
        Path | None, typer.Option(help="Also solutions and tables of mistakes, to this folder.")
    ] = None,
) -> None:
    """Write the students' notebooks, and for instructors the solutions.

    Students get functions that say "not implemented"; nothing of a solution is left in the file.

    Examples:

    * `diffusion-edu exercise build E2`

    * `diffusion-edu exercise build --out class --instructor for_me`
    """
    from ..exercises.build import build

    need("grade", "jupytext", "nbformat")
    chosen = [_load(k).key for k in keys or exercises.names()]
    for path in build(chosen, out, instructor):
        typer.echo(f"wrote {path}")


@exercise_app.command("verify")
def _verify_exercises(
    keys: Annotated[list[str] | None, typer.Argument(help="E1 ... E9. [default: all]")] = None,
) -> None:
    """Prove that exercises are sound: right answers pass, mistakes are named, nothing leaks.

    Examples:

    * `diffusion-edu exercise verify`

    * `diffusion-edu exercise verify E2 E3`
    """
    from tqdm import tqdm

    from ..exercises.verify import CHECKS, verify

    need("grade", "jupytext", "nbformat")
    chosen = [_load(k) for k in keys or exercises.names()]
    problems: list[str] = []
    with tqdm(total=len(chosen) * len(CHECKS), desc="verifying", delay=1) as bar:
        for spec in chosen:
            problems += verify(spec, lambda what: bar.update())
    for text in problems:
        typer.secho(text, fg="red")
    functions = sum(len(e.functions) for e in chosen)
    mistakes = sum(len(f.mistakes) for e in chosen for f in e.functions)
    typer.echo(f"{functions} functions, {mistakes} mistakes, {len(problems)} problems")
    if problems:
        raise typer.Exit(1)


@exercise_app.command("new")
def _new_exercise(
    key: Annotated[str, typer.Argument(help="E10, say.")],
    title: Annotated[str, typer.Argument(help='"Your title".')],
) -> None:
    """Start an exercise of your own beside E1 to E9: a function, a mistake, a test, a notebook.

    Examples:

    * `diffusion-edu exercise new E10 "Your title"`
    """
    from .._files import checkout
    from ..exercises.scaffold import scaffold

    try:
        for path in scaffold(key, title):
            typer.echo(f"wrote {path}")
    except (ValueError, FileExistsError, PermissionError) as error:
        raise _fail(str(error)) from error
    key = key.upper()
    typer.echo(
        f"next: fill them in, then `diffusion-edu exercise verify {key}` and `... build {key}`"
    )
    typer.echo(f'check("{key}") works where this folder is: students need a package that has it')
    if checkout() is None:
        typer.echo("keep a copy, or work in a checkout: the next installation will not have them")


def gradescope_zip(
    exercise: Annotated[str, typer.Argument(help="E1 ... E9.")],
    out: Annotated[Path | None, typer.Option(help="[default: E2_gradescope.zip]")] = None,
    secret: Annotated[
        str, typer.Option(envvar="DIFFUSION_EDU_SECRET", help="Makes the hidden cases.")
    ] = "",
) -> None:
    """Build the archive that Gradescope's "Configure autograder" takes.

    Examples:

    * `diffusion-edu gradescope-zip E2 --secret "our course"`

    * `diffusion-edu gradescope-zip E2 --secret "our course" --out e2.zip`
    """
    from .gradescope import build_zip

    spec = _load(exercise)
    _check_secret(secret)
    path = out or Path(f"{spec.key}_gradescope.zip")
    build_zip(spec.key, secret, path)
    typer.echo(f"wrote {path}: upload it as the autograder of a programming assignment")
