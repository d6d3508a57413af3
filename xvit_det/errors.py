"""The exception for a user's mistakes, and the ends of messages about missing packages and unknown names."""

from collections.abc import Iterable
from difflib import get_close_matches

INSTALL_OPENMMLAB = (
    "install one OpenMMLab family with `pip install 'xvit_det[onedl]'` or `pip install 'xvit_det[openmmlab]'`, "
    'never both'
)


class InputError(ValueError):
    """The user gave something wrong: an argument, an option, a config, a file or a checkpoint.

    The message is one sentence with the offending value and what would be accepted. Commands print it without a
    traceback and exit with ``exit_status``.
    """

    exit_status = 2


class LocalError(InputError):
    """One that a single process of several meets, such as at a broken image; not only the first process prints it."""


class RunError(LocalError):
    """What training met although its inputs can be used, such as a loss that became NaN."""

    exit_status = 1


def sentence(error: InputError) -> str:
    """The message, also of an error in a worker process of a data loader, to which torch adds its traceback."""
    return str(error).rpartition('Error: ')[2].strip() if 'in DataLoader worker process' in str(error) else str(error)


def suggest(name: object, choices: Iterable[str]) -> str:
    """Complete an error message about an unknown name: the close choices if there are many, else all of them."""
    choices = list(choices)
    close = get_close_matches(str(name), choices, n=5, cutoff=0.5) if len(choices) > 10 else []
    return f'did you mean {" or ".join(close)}?' if close else f'choices: {", ".join(choices) or "none"}'
