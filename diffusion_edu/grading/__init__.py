"""Grading: from a folder of submissions to scores, named mistakes and pages, behind walls.

    submissions   find files in folders, archives and exports
    grading       one submission: bytes -> row; ``run``: a class, on this machine or a cluster
    remote        calls into the process of a submission, which ``inside`` holds
    defences      what stands between that process and the machine
    tables, pages, reports   what comes out
    commands, gradescope     the command line, and an autograder for Gradescope

Tests, references and hidden inputs stay in the grading process. What crosses is JSON and raw
numbers (``inside/codec.py``), never a pickle.
"""

__all__: list[str] = []
