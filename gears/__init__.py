"""What a file of functions imports, and what runs it inside and beside Redis."""

from __future__ import annotations

from gears.functions import (
    Change,
    ReadThrough,
    WriteAround,
    WriteBehind,
    WriteThrough,
    deployment_settings,
)

__all__ = ["Change", "ReadThrough", "WriteAround", "WriteBehind", "WriteThrough", "deployment_settings"]
