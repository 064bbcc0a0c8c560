"""An autograder for Gradescope: the archive it takes, and what runs there.

python -m diffusion_edu.grading.gradescope E2 SUBMISSION RESULTS SECRET_FILE
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import re
import sys
import traceback
import zipfile
from pathlib import Path
from typing import Any

from .._files import write_atomically

__all__ = ["PACKAGE", "build_zip", "main", "requirements", "run"]

PACKAGE = Path(__file__).parents[1]
LEFT_OUT = {".safetensors", ".pyc", "_notebooks"}  # networks, lectures: not needed to grade
SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, when the autograder is built.
set -euo pipefail
cd /autograder/source
apt-get update && apt-get install -y python3 python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "this autograder needs Python 3.11: choose a newer base image" >&2; exit 1; }
python3 -m venv /autograder/venv
/autograder/venv/bin/python -m pip install -r requirements.txt
"""
RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for every submission.
cd /autograder/source
PYTHONPATH=/autograder/source /autograder/venv/bin/python -m diffusion_edu.grading.gradescope \\
  {key} /autograder/submission /autograder/results/results.json /autograder/source/secret.txt
"""


def build_zip(key: str, secret: str, path: Path) -> None:
    """Write the archive: this package, what it needs, and the two scripts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "setup.sh", SETUP, executable=True)
        _add(archive, "run_autograder", RUN.format(key=key), executable=True)
        _add(archive, "requirements.txt", "\n".join(requirements()) + "\n")
        _add(archive, "secret.txt", secret)
        for source in sorted(PACKAGE.rglob("*")):
            name = source.relative_to(PACKAGE.parent)
            if source.is_file() and not {source.suffix, *name.parts} & LEFT_OUT:
                _add(archive, name.as_posix(), source.read_bytes())
    write_atomically(path, file.getvalue())


def _add(
    archive: zipfile.ZipFile, name: str, content: str | bytes, executable: bool = False
) -> None:
    entry = zipfile.ZipInfo(name)  # of 1980: the same content makes the same archive
    entry.external_attr = (0o755 if executable else 0o644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def requirements() -> list[str]:
    """What this package needs to grade, as pip wants it."""
    lines = []
    for line in importlib.metadata.requires("diffusion_edu") or []:
        need, _, condition = line.partition(";")
        extra = re.search(r"extra\s*==\s*[\"'](\w+)[\"']", condition)
        if (extra is None or extra[1] == "grade") and not need.startswith("diffusion"):
            lines.append(need.strip())
    return sorted(lines)


def main(arguments: list[str]) -> int:
    """Grade what a student uploaded; results.json is written whatever happens."""
    key, submission, results, secret_file = arguments
    try:
        result = run(key, Path(submission), Path(secret_file).read_text(encoding="utf-8"))
        code = 0
    except Exception:
        said = "The autograder failed; this is not your fault. Please tell your instructor."
        result = {"score": 0, "output": said, "stdout_visibility": "hidden", "tests": []}
        traceback.print_exc()
        code = 1
    Path(results).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    Path(results).write_text(text, encoding="utf-8", errors="replace")
    return code


def run(key: str, submission: Path, secret: str) -> dict[str, Any]:
    """results.json of one student's folder."""
    from .grading import Task, grade
    from .submissions import of_folder
    from .tables import gradescope

    return gradescope(grade(Task(of_folder(submission, key), key, secret)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
