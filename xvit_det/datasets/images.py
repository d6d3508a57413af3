"""A folder of images without labels, for ``type='UnlabelledImages'`` in a config."""

from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from xvit_det.errors import InputError

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """All images of a folder and of those inside it.

    Args:
        data_root: The folder.
        **kwargs: As for mmengine's ``BaseDataset``, such as ``pipeline``.

    Raises:
        InputError: There is no such folder, or it holds no images.
    """

    def __init__(self, *, data_root: str, **kwargs: Any) -> None:
        if not Path(data_root).is_dir():
            raise InputError(f'{data_root} is not a folder of images')
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """The images, sorted by path, as ``dict(img_path=...)``."""
        paths = sorted(path for path in Path(self.data_root).rglob('*') if path.suffix.lower() in EXTENSIONS)
        if not paths:
            raise InputError(f'{self.data_root} and the folders in it hold no images ({", ".join(EXTENSIONS)})')
        return [dict(img_path=str(path)) for path in paths]

    def prepare_data(self, idx: int) -> Any:
        """What the pipeline makes of an image; a file that it cannot read is named."""
        try:
            return super().prepare_data(idx)
        except Exception as error:  # each library that reads images has exceptions of its own
            path = self.get_data_info(idx)['img_path']
            reason = (str(error).splitlines() or [''])[0]
            raise InputError(f'{path} cannot be prepared: {type(error).__name__} {reason}'.rstrip()) from error
