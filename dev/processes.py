"""Child processes that never outlive this one."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """The reason, in words for the person at the terminal."""


def die_with_parent(death_signal: int) -> None:
    """The kernel ends this child when its parent ends, even by kill -9. Linux only; elsewhere this does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)


@contextlib.contextmanager
def running(command: list, environment: dict, stop: signal.Signals, **options: Any) -> Iterator[subprocess.Popen]:
    """A child in its own session, so Ctrl-C does not reach it: `stop` ends it, and everything that it started.

    `options` are Popen's.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(stop),
        **options,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            # The rest of the group, stopped or not.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end_with(main: Callable[[], int]) -> NoReturn:
    """Ends this process with what `main` returns. A failure is one line, and a signal lets it clean up first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(str(failed))
    except KeyboardInterrupt:
        sys.exit(130)
