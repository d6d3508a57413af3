"""mmpretrain beside transformers 5, which lacks names that mmpretrain's language models import."""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def leave_out_multimodal() -> None:
    """Let mmpretrain register placeholders for its multimodal models, as where transformers is not installed.

    ``mmpretrain.utils.dependency`` is imported, and what reads it is not yet.
    """
    try:
        new = int(version('transformers').split('.')[0]) >= 5
    except PackageNotFoundError:
        return
    if new:
        dependency: Any = sys.modules['mmpretrain.utils.dependency']
        dependency.WITH_MULTIMODAL = False
