"""Where commands print their tables."""

from rich.console import Console


def screen(columns: int) -> Console:
    """The terminal, or stdout with this many columns where it goes into a file."""
    console = Console()
    return console if console.is_terminal else Console(width=columns)
