"""Images of any kind as the array that a model's preprocessing starts from: (H, W, 3), BGR, uint8, upright."""

import os
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from xvit_det.errors import InputError
from xvit_det.image_files import check_file


def read_image(image: Any) -> np.ndarray:
    """An image as (H, W, 3) in BGR and uint8.

    Pillow's images, and JPEG, PNG and TIFF files, are turned as their EXIF orientation says, like mmcv's
    ``LoadImageFromFile`` does; of other files, such as WebP, OpenCV ignores it. Grey images become colour, transparency
    is dropped, and of 16 bits the upper 8 remain.

    Args:
        image: A file; an array (H, W), (H, W, 3) or (H, W, 4) in the order of OpenCV, BGR, in uint8 or uint16; an image
            of Pillow; or a tensor (3, H, W) or (1, H, W) in RGB, uint8 or from 0 to 1.

    Raises:
        InputError: It is none of these, or a file that cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        check_file(image)
        pixels = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise InputError(f'{image} cannot be read as an image: OpenCV does not know its format')
        return pixels
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise InputError(f'an image is a path, array, Pillow image or tensor, not {type(image).__name__}')


def _from_array(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise InputError(f'an array of an image has uint8 from 0 to 255 (or uint16), not {pixels.dtype}')
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)  # (H, W) -> (H, W, 3)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.size == 0:
        raise InputError(f'an array of an image has the shape (H, W), (H, W, 3) or (H, W, 4), not {pixels.shape}')
    return np.ascontiguousarray(pixels[..., :3])


def _from_pillow(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode in ('F', 'I'):
        raise InputError(
            f"an image of Pillow's mode {image.mode} has no known range; convert it to mode L, RGB or I;16 first"
        )
    if image.mode.startswith('I;16'):  # which Pillow would clip instead of scale
        return _from_array(np.asarray(image).astype(np.uint16))
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])


def _from_tensor(image: Tensor) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise InputError(f'a tensor of an image has the shape (3, H, W) or (1, H, W), not {tuple(image.shape)}')
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):
            raise InputError(
                f'a tensor of floats goes from 0 to 1, not from {float(image.min()):.3g} to {float(image.max()):.3g}'
            )
        image = (image.float() * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise InputError(f'a tensor of an image has uint8 or floats, not {image.dtype}')
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()  # (3, H, W) -> (H, W, 3)
    return np.ascontiguousarray(pixels[..., ::-1])
