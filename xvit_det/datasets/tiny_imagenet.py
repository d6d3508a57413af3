"""Tiny ImageNet as an mmpretrain dataset, for ``type='TinyImageNet'`` in a config."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset

from xvit_det.errors import InputError

WNIDS, WORDS, VAL_LABELS = 'wnids.txt', 'words.txt', 'val/val_annotations.txt'


@DATASETS.register_module()
class TinyImageNet(BaseDataset):
    """Images of 64x64 pixels of 200 ImageNet classes, in the layout of their archive.

    ``tiny-imagenet-200/`` holds ``wnids.txt`` (one class per line, numbered in this order), ``words.txt`` (their
    names), ``train/<wnid>/images/``, ``val/images/`` and ``val/val_annotations.txt``. The test split has no labels
    and is not read. Folders with fewer classes work.

    Args:
        data_root: The folder that holds ``tiny-imagenet-200/``.
        split: ``'train'`` or ``'val'``.
        **kwargs: As for mmpretrain's ``BaseDataset``.

    Raises:
        InputError: An unknown split, a file or folder is missing, or a class is not listed.
    """

    base_folder: ClassVar[str] = 'tiny-imagenet-200'
    required_files: ClassVar[tuple[str, ...]] = (WNIDS, WORDS, 'train', 'val/images', VAL_LABELS)

    def __init__(self, *, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        if split not in ('train', 'val'):
            raise InputError(f'Tiny ImageNet has the labelled splits train, val, not {split!r}')
        self.split = split
        self.folder = Path(data_root, self.base_folder)
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List every image with its label.

        Returns:
            ``dict(img_path=..., gt_label=...)`` for each, in the order of the classes or of the annotation file.
        """
        try:
            label = {wnid: i for i, wnid in enumerate(self._lines(WNIDS))}
            names = dict(line.split('\t', 1) for line in self._lines(WORDS))
            labelled = list(self._labelled(label))
        except OSError as error:
            raise InputError(f'{self.folder} is not an unpacked Tiny ImageNet: no {error.filename}') from None
        unknown = sorted({wnid for _, wnid in labelled} - set(label))
        if unknown:
            raise InputError(f'{self.folder}/{VAL_LABELS} names classes that {WNIDS} does not: {", ".join(unknown)}')
        self._metainfo.setdefault('classes', tuple(names.get(wnid, wnid) for wnid in label))
        return [dict(img_path=str(path), gt_label=label[wnid]) for path, wnid in labelled]

    def _labelled(self, wnids: Iterable[str]) -> Iterator[tuple[Path, str]]:
        """Every image of the split with its class."""
        if self.split == 'train':
            for wnid in wnids:
                for path in sorted((self.folder / 'train' / wnid / 'images').iterdir()):
                    yield path, wnid
        else:
            for line in self._lines(VAL_LABELS):
                name, wnid, *_box = line.split('\t')
                yield self.folder / 'val' / 'images' / name, wnid

    def _lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()
