"""Device numbers, packed as stat(2) shows them. Mirrors ``include/linux/kdev_t.h``."""

from __future__ import annotations


def makedev(major: int, minor: int) -> int:
    """One number for a driver and the device that it knows under ``minor`` (``new_encode_dev`` and beyond)."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


def major(dev: int) -> int:
    """The driver's half."""
    return (dev >> 8) & 0xFFF | (dev >> 32) & ~0xFFF


def minor(dev: int) -> int:
    """The driver's own half."""
    return dev & 0xFF | (dev >> 12) & 0xFFFFFF00
