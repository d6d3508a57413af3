"""What a command is doing, said on stderr once it has been silent for some seconds."""

import os
import sys
from threading import Timer

SECONDS = 3.0  # of silence


class _Speaker:
    """Of this process; silent unless it is a command, not Python code that calls one."""

    is_on = False
    timer: Timer | None = None


def begin() -> None:
    """Let the stages be said, from the first one on: every command imports what it needs."""
    _Speaker.is_on = os.environ.get('LOCAL_RANK', '0') == '0'
    stage('Importing PyTorch and OpenMMLab')


def end() -> None:
    """Say nothing more."""
    stage(None)
    _Speaker.is_on = False


def stage(what: str | None, at_once: bool = False) -> None:
    """Tell what follows, if it takes some seconds.

    Args:
        what: Such as ``'Loading the data'``; ``None``: the command speaks for itself now.
        at_once: Do not wait, because what follows keeps all other threads from running.
    """
    if _Speaker.timer:
        _Speaker.timer.cancel()
        _Speaker.timer = None
    if not (what and _Speaker.is_on):
        return
    if at_once:
        _say(what)
        return
    _Speaker.timer = Timer(SECONDS, _say, [what])
    _Speaker.timer.daemon = True
    _Speaker.timer.start()


def _say(what: str) -> None:
    print(f'{what} …', file=sys.stderr, flush=True)
