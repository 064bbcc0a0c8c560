"""How a submission's cells become a file: formats, packings, names, and files that are broken."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
Cells = Sequence[Any]  # of grading_class.Cell
Dress = Callable[[Path, int, Any, random.Random], str]  # of grading_class.Draft


def nb(cells: Cells, lines: bool = True, metadata: Any = KERNEL, **more: Any) -> dict[str, Any]:
    """A notebook of format 4."""
    made = []
    for c in cells:
        source = c.source.splitlines(keepends=True) if lines else c.source
        cell = {"cell_type": c.kind, "metadata": {}, "source": source, **more}
        made.append(cell | ({"execution_count": 1, "outputs": []} if c.kind == "code" else {}))
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def text(notebook: Any) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False)


def script(cells: Cells, head: str = "# %%") -> str:
    parts = []
    for c in cells:
        if c.kind == "code":
            parts.append(f"{head}\n{c.source}")
        else:
            parts.append(f"{head} [markdown]\n" + "\n".join("# " + x for x in c.source.split("\n")))
    return "\n\n".join(parts) + "\n"


def packed(*files: tuple[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return file.getvalue()


def _saved(folder: Path, i: int, suffix: str, data: str | bytes) -> str:
    file = folder / f"student {i:03}{suffix}"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return file.stem


# ---- that can be read ----------------------------------------------------------------------------


def plain(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", text(nb(d.cells)))


def sources_as_text(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", text(nb(d.cells, lines=False)))


def format_3(folder: Path, i: int, d: Any, r: random.Random) -> str:
    old = []
    for c in d.cells:
        name = "input" if c.kind == "code" else "source"
        old.append({"cell_type": c.kind, name: c.source.splitlines(keepends=True), "metadata": {}})
    sheets = [{"cells": old[: len(old) // 2]}, {"cells": old[len(old) // 2 :]}]
    made = {"worksheets": sheets, "metadata": {"name": "E2"}, "nbformat": 3, "nbformat_minor": 0}
    return _saved(folder, i, ".ipynb", text(made))


def colab(folder: Path, i: int, d: Any, r: random.Random) -> str:
    about = {"accelerator": "GPU", "colab": {"provenance": [], "gpuType": "T4"}}
    made = nb(d.cells, metadata=about, id="0mTqR-fX4b2s")
    for k, cell in enumerate(made["cells"]):
        cell["metadata"] = {"colab": {"base_uri": "https://localhost/"}, "id": f"cell-{k}"}
        if "outputs" in cell:
            picture = {"data": {"image/png": "iVBORw0KGgo" * 5_000}, "output_type": "display_data"}
            cell["outputs"] = [picture]
    made["nbformat_minor"] = 0
    return _saved(folder, i, ".ipynb", json.dumps(made))


def byte_order_mark(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", "\ufeff" + text(nb(d.cells)))


def utf_16(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", text(nb(d.cells)).encode("utf-16"))


def windows(folder: Path, i: int, d: Any, r: random.Random) -> str:
    for c in d.cells:
        c.source = c.source.replace("\n", "\r\n")
    return _saved(folder, i, ".IPYNB", text(nb(d.cells)).replace("\n", "\r\n"))


def wrong_kernel(folder: Path, i: int, d: Any, r: random.Random) -> str:
    kernel = {"name": "ir", "display_name": "R", "language": "R"}
    return _saved(folder, i, ".ipynb", text(nb(d.cells, metadata={"kernelspec": kernel})))


def no_metadata(folder: Path, i: int, d: Any, r: random.Random) -> str:
    made = [{"cell_type": c.kind, "source": c.source} for c in d.cells]
    return _saved(folder, i, ".ipynb", text({"cells": made}))


def a_script(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".py", script(d.cells))


def notebook_called_script(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".py", text(nb(d.cells)))


def archive(folder: Path, i: int, d: Any, r: random.Random) -> str:
    junk = ("__MACOSX/work/._E2.ipynb", b"\0\5\x16\7"), ("work/data.csv", "1,2\n")
    return _saved(folder, i, ".zip", packed(("work/E2_final.ipynb", text(nb(d.cells))), *junk))


def a_folder(folder: Path, i: int, d: Any, r: random.Random) -> str:
    """With a notebook of another exercise, and an old state of this one."""
    own = folder / f"student {i:03}"
    (own / ".ipynb_checkpoints").mkdir(parents=True)
    (own / "work").mkdir()
    (own / "work" / f"my {d.key.lower()} notebook.ipynb").write_text(text(nb(d.cells)))
    (own / "E99.ipynb").write_text(text(nb(d.cells[:1])))
    (own / ".ipynb_checkpoints" / "E2-checkpoint.ipynb").write_text(text(nb(d.cells[:1])))
    return own.name


def canvas(folder: Path, i: int, d: Any, r: random.Random) -> str:
    late = r.choice(["", "_LATE"])
    file = folder / f"zhangli{i:03}{late}_{1000 + i}_{9000 + i}_E2_jump-1.ipynb"
    file.write_text(text(nb(d.cells)))
    return f"zhangli{i:03}"


def moodle(folder: Path, i: int, d: Any, r: random.Random) -> str:
    own = folder / f"Zoë O'Neil {i:03}_{2000 + i}_assignsubmission_file"
    own.mkdir()
    (own / "E2.zip").write_bytes(packed(("E2.ipynb", text(nb(d.cells)))))
    return f"Zoë O'Neil {i:03}"


DRESSES: list[Dress] = [
    *(plain, sources_as_text, format_3, colab, byte_order_mark, utf_16, windows, wrong_kernel),
    *(no_metadata, a_script, notebook_called_script, archive, a_folder, canvas, moodle),
]


# ---- that cannot ---------------------------------------------------------------------------------


def conflict(folder: Path, i: int, d: Any, r: random.Random) -> str:
    lines = text(nb(d.cells)).splitlines()
    at = r.randrange(3, len(lines))
    lines[at:at] = ["<<<<<<< HEAD", lines[at], "=======", lines[at], ">>>>>>> origin/main"]
    return _saved(folder, i, ".ipynb", "\n".join(lines))


def cut_short(folder: Path, i: int, d: Any, r: random.Random) -> str:
    whole = text(nb(d.cells))
    return _saved(folder, i, ".ipynb", whole[: r.randrange(10, len(whole) - 10)])


def empty(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", r.choice(["", " \n"]))


def another_kind(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(
        folder, i, r.choice([".pdf", ".docx", ".txt", ".ipynb.download"]), script(d.cells)
    )


def script_called_notebook(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", script(d.cells))


def a_web_page(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", "<!DOCTYPE html><title>Sign in</title>")


def a_list(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".ipynb", json.dumps(nb(d.cells)["cells"]))


def not_text(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(
        folder, i, ".py", b"\x80\x04\x95" + bytes(r.randrange(128, 256) for _ in [0] * 50)
    )


def nothing_in_it(folder: Path, i: int, d: Any, r: random.Random) -> str:
    return _saved(folder, i, ".zip", packed(("report.pdf", "%PDF-1.4")))


def damaged_archive(folder: Path, i: int, d: Any, r: random.Random) -> str:
    whole = packed(("E2.ipynb", text(nb(d.cells))))
    return _saved(folder, i, ".zip", whole[: len(whole) // 2])


def a_link(folder: Path, i: int, d: Any, r: random.Random) -> str:
    os.symlink(__file__, folder / f"student {i:03}.py")
    return f"student {i:03}"


BROKEN: dict[Dress, str] = {
    conflict: r"unsolved merge conflict, first on line \d+",
    cut_short: r"no valid JSON, line \d+",
    empty: r"the file is empty",
    another_kind: r"no notebook or script in it, but \.(pdf|docx|txt|download)",
    script_called_notebook: r"no valid JSON, line 1",
    a_web_page: r"no valid JSON, line 1",
    a_list: r"its JSON is no object",
    not_text: r"no text: byte 0",
    nothing_in_it: r"no notebook or script in it, but \.pdf",
    damaged_archive: r"the archive cannot be read",
    a_link: r"symbolic link",
}
