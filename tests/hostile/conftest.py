"""The fixture that hostile tests share."""

from place import arena

__all__ = ["arena"]
