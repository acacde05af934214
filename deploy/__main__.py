"""``python -m deploy`` is ``gearsync``."""

from __future__ import annotations

from deploy.cli import main

main()
