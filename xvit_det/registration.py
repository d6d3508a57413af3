"""Our classes in MMEngine's root registries, where configs of every OpenMMLab package find them."""

from importlib import import_module


def register() -> None:
    """Import what a config may name, and allow the types in OpenMMLab's checkpoints."""
    from xvit_det.compat.safe_loading import allow_checkpoint_types

    allow_checkpoint_types()
    for room in ('backbones', 'engine'):
        import_module(f'xvit_det.{room}')
