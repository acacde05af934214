"""What a file of functions imports, and what runs it inside and beside Redis."""

from __future__ import annotations

from gears.declaring.declarations import (
    ReadThrough,
    WriteAround,
    WriteBehind,
    WriteThrough,
    deployment_settings,
)
from gears.declaring.functions import Change

__all__ = ["Change", "ReadThrough", "WriteAround", "WriteBehind", "WriteThrough", "deployment_settings"]
