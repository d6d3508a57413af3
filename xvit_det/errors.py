"""The one exception that commands turn into a sentence instead of a traceback."""


class InputError(ValueError):
    """What the user gave is wrong: a path, an option, a config or a checkpoint.

    The message is one sentence with the offending value and what would be accepted. Commands print it and exit with
    status 2; from Python it is an ordinary ``ValueError``.
    """
