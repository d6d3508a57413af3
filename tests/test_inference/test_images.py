"""Images of every kind become the array that OpenCV reads from the file, or one sentence says why not."""

import struct
import zlib
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from PIL import Image

from xvit_det.errors import InputError
from xvit_det.inference.images import read_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)  # RGB


def test_a_file_an_array_pillow_and_tensors_are_the_same_image(tmp_path):
    path = tmp_path / 'a.png'
    Image.fromarray(COLOUR).save(path)
    expected = mmcv.imread(str(path))
    assert (expected == COLOUR[..., ::-1]).all()
    tensor = torch.from_numpy(COLOUR).permute(2, 0, 1)
    for image in (path, str(path), COLOUR[..., ::-1], Image.open(path), tensor, tensor / 255):
        assert (read_image(image) == expected).all()


def test_exif_orientation_turns_files_and_pillow_images_alike(tmp_path):
    path = tmp_path / 'phone.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(np.kron(COLOUR, np.ones((8, 8, 1), np.uint8))).save(path, exif=exif, quality=100)
    pixels = read_image(path)
    assert pixels.shape == (240, 160, 3)
    assert (pixels == mmcv.imread(str(path))).all()
    assert abs(read_image(Image.open(path)).astype(int) - pixels).max() <= 3  # another decoder of JPEG


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'LA', '1', 'CMYK', 'I;16'])
def test_every_mode_is_read_like_opencv_reads_it(tmp_path, mode):
    path = tmp_path / ('x.jpg' if mode == 'CMYK' else 'x.png')
    if mode == 'I;16':
        image = Image.fromarray(RNG.integers(0, 65536, (20, 30), dtype=np.uint16))
    else:
        image = Image.fromarray(COLOUR).convert('RGB' if mode == 'CMYK' else mode).convert(mode)
    image.save(path, quality=100) if mode == 'CMYK' else image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (20, 30, 3) and pixels.dtype == np.uint8
    assert (pixels == mmcv.imread(str(path))).all()
    difference = abs(read_image(Image.open(path)).astype(int) - pixels).max()
    assert difference <= (60 if mode == 'CMYK' else 1)  # which has no one way to RGB


def test_arrays_with_grey_transparency_or_16_bits():
    bgr = COLOUR[..., ::-1]
    assert (read_image(bgr[..., 0]) == bgr[..., :1]).all()
    assert (read_image(bgr[..., :1]) == bgr[..., :1]).all()
    assert (read_image(np.dstack([bgr, bgr[..., 0]])) == bgr).all()
    assert (read_image(bgr.astype(np.uint16) * 257) == bgr).all()


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is this large, and holds nothing."""
    chunks = [
        (b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)),
        (b'IDAT', zlib.compress(b'')),
        (b'IEND', b''),
    ]
    body = (
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(body)


def whole(ending: str) -> bytes:
    return cv2.imencode(ending, np.kron(COLOUR, np.ones((8, 8, 1), np.uint8)))[1].tobytes()


@pytest.mark.parametrize(
    'content, said',
    [
        (b'', 'it is empty'),
        (b'hello, this is text', 'it is of no image format'),
        (whole('.jpg')[:2000], 'truncated'),
        (whole('.png')[:2000], 'truncated'),
        (png_of(20_000, 20_000), 'is too large: Image size (400000000 pixels)'),
    ],
)
def test_broken_files_are_refused(tmp_path, content, said):
    path = tmp_path / 'x.jpg'
    path.write_bytes(content)
    with pytest.raises(InputError, match='x.jpg') as refusal:
        read_image(path)
    assert said in str(refusal.value) and '\n' not in str(refusal.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match='nothing.png does not exist'):
        read_image(tmp_path / 'nothing.png')
    with pytest.raises(InputError, match='cannot be read as an image: Is a directory'):
        read_image(tmp_path)


@pytest.mark.parametrize(
    'image, said',
    [
        (None, 'not NoneType'),
        (b'bytes', 'not bytes'),
        (COLOUR / 255, 'not float64'),
        (COLOUR[..., :2], r'not \(20, 30, 2\)'),
        (COLOUR[:0], r'not \(0, 30, 3\)'),
        (torch.zeros(20, 30, 3), r'not \(20, 30, 3\)'),
        (torch.full((3, 4, 4), 2.5), 'not from 2.5 to 2.5'),
        (torch.full((3, 4, 4), float('nan')), 'not from nan to nan'),
        (torch.zeros(3, 4, 4, dtype=torch.int64), 'not torch.int64'),
        (Image.new('F', (4, 4)), 'mode F'),
        (Image.new('I', (4, 4), 200), 'mode I has no known range'),
    ],
)
def test_other_objects_are_refused(image, said):
    with pytest.raises(InputError, match=said):
        read_image(image)


def test_real_photographs_are_read_like_mmcv_reads_them(coco_tiny: Path):
    for path in sorted((coco_tiny / 'val2017').glob('*.jpg'))[:5]:
        assert (read_image(path) == mmcv.imread(str(path))).all()
