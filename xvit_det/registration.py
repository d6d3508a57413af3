"""Our classes in MMEngine's root registries, where configs of every OpenMMLab package find them; files it can read."""

from importlib import import_module
from typing import Any


def register() -> None:
    """Import what a config may name, allow the types in OpenMMLab's checkpoints, and make MMEngine read safetensors.

    The imported packages register their classes themselves: the backbones may be the ones that import MMEngine, and
    this is called before they exist.
    """
    from mmengine.runner import CheckpointLoader

    from xvit_det.compat.safe_loading import allow_checkpoint_types

    allow_checkpoint_types()
    # Schemes are regular expressions of how a path starts; the one for addresses must sort before 'http'.
    schemes = (r'https?://.*\.safetensors$', r'.*\.safetensors$')
    CheckpointLoader.register_scheme(schemes, load_from_safetensors, force=True)
    for room in ('backbones', 'engine'):
        import_module(f'xvit_det.{room}')


def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """What MMEngine's loaders return: weights under ``state_dict``, the file's header under ``meta``."""
    from xvit_det.weights.files import read_checkpoint

    return read_checkpoint(filename)
