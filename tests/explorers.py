"""Helpers for the tests of the explorers."""

from __future__ import annotations

from typing import Any

from diffusion_edu.widgets import ReverseExplorer


def ask(explorer: Any, **values: Any) -> tuple[dict[str, Any], list[bytes]]:
    return explorer.receive({"seq": 1, "view": "v", "values": values, "final": True})


def oracle_explorer(**options: Any) -> ReverseExplorer:
    return ReverseExplorer("oracle", "gaussians", **{"n": 200, "steps": 10, **options})
