"""Runs a user's script the way ``python`` would: its name, its arguments, its directory first on the path."""

from __future__ import annotations

import contextlib
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import typer

from zmflow.errors import ConfigurationError, ZmflowError

__all__ = ["run_script"]


def run_script(script: Path, arguments: Sequence[str], *, pyflink: bool = False) -> None:
    """Run ``script`` as ``__main__`` with ``sys.argv`` and ``sys.path[0]`` as Python sets them.

    With ``pyflink`` its imports of PyFlink give zmflow's modules. An exception of the script ends the command
    with exit code 1, after the script's own traceback; a ``ZmflowError`` and ``SystemExit`` pass.

    Raises:
        ConfigurationError: there is no such script, or it cannot be read.
    """
    if not script.exists():
        raise ConfigurationError(
            f"There is no script {str(script)!r}.",
            detail=f"Looked in {Path.cwd()}." if not script.is_absolute() else None,
            hint="Check the path; arguments for the script itself go after --.",
        )
    saved_arguments, saved_path = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path[0:1] = [str(script.resolve() if script.is_dir() else script.resolve().parent)]
    try:
        with _imports(pyflink=pyflink):
            runpy.run_path(str(script), run_name="__main__")
    except ZmflowError:
        raise
    except OSError as error:
        if _first_frame_of(error.__traceback__, script) is None and error.filename is not None:
            raise ConfigurationError(
                f"The script {str(script)!r} cannot be read.", detail=error.strerror
            ) from None
        _end_with_traceback(error, script)
    except Exception as error:  # noqa: BLE001 - a script may raise anything
        _end_with_traceback(error, script)
    finally:
        sys.argv, sys.path[:] = saved_arguments, saved_path


def _imports(*, pyflink: bool) -> contextlib.AbstractContextManager[None]:
    if not pyflink:
        return contextlib.nullcontext()
    from zmflow.compat.pyflink import pyflink_imports

    return pyflink_imports()


def _end_with_traceback(error: Exception, script: Path) -> None:
    sys.stdout.flush()
    own_frames = _first_frame_of(error.__traceback__, script)
    traceback.print_exception(type(error), error, own_frames, file=sys.stderr)
    raise typer.Exit(1) from None


def _first_frame_of(frames: TracebackType | None, script: Path) -> TracebackType | None:
    """The traceback from the script's own first frame on; None when the script never ran."""
    while frames is not None:
        filename = frames.tb_frame.f_code.co_filename
        if filename == str(script) or (script.is_dir() and filename.startswith(str(script))):
            return frames
        frames = frames.tb_next
    return None
