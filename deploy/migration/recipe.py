"""Run a recipe against the stand-ins, in this process: it is the user's own code, as functions.py is."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback

from deploy.migration import standins
from deploy.output import CommandError

ONLY_DECLARATIONS = "leave in a copy of the recipe what declares to rgsync, and migrate that."


def run(path: str) -> standins.Recording:
    """Return what the recipe at ``path`` declares. Raises CommandError when it can't be read or raises.

    What it prints goes to standard error, for standard output belongs to the functions.
    """
    recording = standins.Recording(path)
    source = _read(path)
    token = standins.begin(recording)
    namespace = {"__name__": "__main__", "__file__": path, **standins.SCRIPT_NAMES}
    try:
        with standins.Modules(), contextlib.redirect_stdout(sys.stderr):
            exec(compile(source, path, "exec"), namespace)  # noqa: S102 (what the user asks for)
    except CommandError:
        raise
    except (Exception, SystemExit) as error:
        raise _error(error, recording) from None
    finally:
        standins.end(token)
    return recording


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            # As Python reads it: with a byte order mark, or in the encoding that it declares.
            return importlib.util.decode_source(file.read())
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}.") from error
    except (UnicodeDecodeError, SyntaxError) as error:
        raise CommandError(f"{path} is not UTF-8, nor in an encoding that it declares: {error}.") from error


def _error(error: BaseException, recording: standins.Recording) -> CommandError:
    """Say where and how a recipe has ended. Not the cause's own traceback: it may show a password."""
    path = recording.path
    if isinstance(error, SyntaxError) and error.filename == path:
        return CommandError(f"{path}:{error.lineno}: this is not Python: {error.msg}.")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    place = f"{path}:{lines[-1]}" if lines else path
    if isinstance(error, SystemExit):
        return CommandError(f"{place}: the recipe ends the program.", ONLY_DECLARATIONS)
    said = recording.without_secrets(f"{type(error).__name__}: {error}")
    if isinstance(error, ImportError):
        return CommandError(f"{place}: {said}.", "install here what the recipe imports.")
    return CommandError(f"{place}: the recipe raises {said}.", ONLY_DECLARATIONS)
