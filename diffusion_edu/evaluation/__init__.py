"""Samples of a network, and how good they are: distances, accuracy, copies, bits per dim."""

__all__: list[str] = []
