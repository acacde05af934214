"""A headless Chromium for the tests of pages: this machine's own, or playwright's."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

#: A browser in another place.
VARIABLE = "GEARSYNC_TEST_CHROMIUM"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ABSENT = (
    "no Chromium: apt-get install chromium-headless-shell, or chromium, or playwright install "
    f"chromium-headless-shell, or name one by {VARIABLE}"
)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser; where there is none, the test is skipped."""
    with sync_playwright() as play:
        path = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)
        if path is None and not Path(play.chromium.executable_path).exists():
            pytest.skip(ABSENT)
        # As root it has no sandbox.
        with play.chromium.launch(executable_path=path, chromium_sandbox=os.getuid() != 0) as browser:
            yield browser
