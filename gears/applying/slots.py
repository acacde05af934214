"""Slots of a Redis Cluster, also where there is no redis-py."""

from __future__ import annotations

import binascii

SLOTS = 16384


def slot_of(text: bytes) -> int:
    """Return the slot of a hash tag, or of a key that has none (CRC-16/XMODEM, says the specification)."""
    return binascii.crc_hqx(text, 0) % SLOTS
