"""Dead letters as JSON lines, one at a time, so that their number does not matter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from deploy.letters.store import Letter
from deploy.output import CommandError


def write(letters: Iterable[Letter], path: str | None) -> int:
    """Write letters to a new file, or to standard output; return how many. Raises CommandError.

    A file that was not finished is removed, so that one that is there has all.
    """
    if path is None:
        return _lines(letters, sys.stdout)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{path} is there already.", "name another file, or remove it.") from error
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}.") from error
    try:
        with open(handle, "w", encoding="ascii") as file:
            return _lines(letters, file)
    except OSError as error:
        Path(path).unlink(missing_ok=True)
        raise CommandError(f"{path} can't be written: {error.strerror}.") from error
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def _lines(letters: Iterable[Letter], file: TextIO) -> int:
    count = 0
    for letter in letters:
        # ASCII, so that halves of surrogates, which stand for bytes, survive any encoding.
        file.write(json.dumps(letter.whole()) + "\n")
        count += 1
    return count
