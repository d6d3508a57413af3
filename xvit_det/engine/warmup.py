"""Warm-ups that are longer than the training: its learning rate would never be reached."""

from typing import Any

SHARE = 10  # a shortened warm-up is a tenth of the training


def shorten_warmups(schedulers: Any, iterations: int) -> list[str]:
    """Shorten the warm-ups by iterations that do not end before training does.

    Args:
        schedulers: A config's ``param_scheduler``, changed in place: a ``LinearLR`` that begins at 0 ends earlier, and
            what begins where it ended, too.
        iterations: Of the training.

    Returns:
        A sentence for each.
    """
    entries = schedulers if isinstance(schedulers, list) else [schedulers]
    entries = [entry for entry in entries if isinstance(entry, dict) and not entry.get('by_epoch', True)]
    notes = []
    for warmup in entries:
        end = warmup.get('end') or 0
        if str(warmup.get('type')).endswith('LinearLR') and not warmup.get('begin') and end > iterations:
            shorter = max(1, iterations // SHARE)
            for entry in entries:
                if entry.get('begin') == end:
                    entry['begin'] = shorter
            warmup['end'] = shorter
            notes.append(
                f'The warm-up of {end} iterations is longer than the training of {iterations}: shortened to {shorter}.'
            )
    return notes
