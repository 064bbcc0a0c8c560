"""How a predict card shows itself: choose, lock, reveal."""

from __future__ import annotations

from typing import Any

__all__ = ["mimebundle"]


def mimebundle(card: Any) -> dict[str, Any]:
    """What a notebook stores of a card."""
    return {"text/plain": card.question, "text/markdown": f"**Predict.** {card.question}"}
