"""The sentences and exit statuses with which training ends early."""

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from mmengine.dist import is_main_process

from xvit_det.config.launch import told_losses
from xvit_det.engine.checkpoints import LAST
from xvit_det.engine.stopping import Stopped
from xvit_det.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def told_endings(work_dir: str) -> Iterator[None]:
    """Around training: whatever ends it becomes one sentence that says what was saved.

    Raises:
        InputError: The disk is full, or a dataset cannot be downloaded.
        SystemExit: With the status that a shell gives to the signal: 143 after SIGTERM, 130 after Ctrl-C.
    """
    handler = signal.getsignal(signal.SIGTERM)  # StopOnRequest sets its own
    try:
        with told_losses():
            yield
    except Stopped as stopped:
        _leave(str(stopped), signal.SIGTERM)
    except KeyboardInterrupt:
        last = Path(work_dir, LAST)
        saved = (
            f'the last checkpoint is {last.read_text().strip()}' if last.is_file() else 'no checkpoint was written yet'
        )
        _leave(f'Stopped by Ctrl-C; {saved}. Go on with --resume.', signal.SIGINT)
    except URLError as error:
        raise InputError(f'a dataset could not be downloaded ({error}); use --data-root DIR') from error
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise InputError(f'{error.filename or work_dir} cannot be written: {error.strerror}') from error
    finally:
        signal.signal(signal.SIGTERM, handler)


def _leave(sentence: str, number: signal.Signals) -> None:
    if is_main_process():
        print(sentence, file=sys.stderr, flush=True)
    raise SystemExit(128 + number)
