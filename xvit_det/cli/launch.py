"""Start the processes of a distributed run, as torchrun does, and say in one sentence how they ended.

``tools/dist_train.sh`` and ``dist_test.sh`` run it; the options are torchrun's.
"""

import logging
import signal
import sys

from xvit_det.cli.common import Arguments

TOLD = (2, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # statuses that a process explains itself


def main(argv: Arguments = None) -> None:
    """Start the processes and wait for them: if one fails, the others are stopped.

    Raises:
        SystemExit: With the status of the process that failed first, 128 plus the number of a signal that ended it.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from xvit_det.config.launch import LOST

    for name in ('torch.distributed.elastic', 'torch.distributed.run'):
        for logger in (name, *(n for n in logging.root.manager.loggerDict if n.startswith(f'{name}.'))):
            logging.getLogger(logger).setLevel(logging.CRITICAL)  # they report every process at length
    try:
        run.run(run.parse_args(argv))
    except SignalException as stopped:
        raise SystemExit(128 + stopped.sigval) from None
    except ChildFailedError as failed:
        # One that is killed takes others with it, which lose their connection to it.
        rank, failure = min(failed.failures.items(), key=lambda item: (item[1].exitcode >= 0, item[1].exitcode == LOST))
        if failure.exitcode < 0:
            how, status = f'was killed by {failure.signal_name()}', 128 - failure.exitcode
        else:
            how, status = f'failed with status {failure.exitcode}, see above', failure.exitcode
        if status not in TOLD:
            print(f'error: rank {rank} {how}; the other processes were stopped', file=sys.stderr, flush=True)
        raise SystemExit(status) from None


if __name__ == '__main__':
    main()
