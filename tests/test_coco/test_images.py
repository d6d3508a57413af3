"""What is wrong with the image files that an annotation file names."""

import os
import unicodedata

import mmcv
import numpy as np
import pytest
from PIL import Image

from xvit_det.coco.files import check_listed, check_opened
from xvit_det.errors import InputError
from xvit_det.image_files import check_end, check_file, loaded_size

WIDTH, HEIGHT = 64, 48


@pytest.fixture
def folder(tmp_path):
    """Six JPEGs, in two folders."""
    (tmp_path / 'more').mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name in NAMES:
        Image.fromarray(noise).save(tmp_path / name)
    return tmp_path


NAMES = ('0.jpg', '1.jpg', 'more/2.jpg', 'é ü 雪.jpg', '4.jpg', '5.jpg')
CONTENT = dict(images=[dict(id=i, file_name=name, width=WIDTH, height=HEIGHT) for i, name in enumerate(NAMES)])


def opened(folder, **options):
    problems = check_opened(CONTENT, str(folder), range(len(NAMES)), **options)
    return {
        (problem.kind, position): problem.details[position] for problem in problems for position in problem.positions
    }


def test_sound_images(folder):
    assert check_listed(CONTENT, str(folder)) == [] and opened(folder) == {}


def test_missing_and_empty_files(folder):
    os.remove(folder / 'more' / '2.jpg')
    os.truncate(folder / '1.jpg', 0)
    os.remove(folder / '4.jpg')
    (folder / '4.jpg').mkdir()
    missing, empty = check_listed(CONTENT, str(folder))
    assert (missing.kind, missing.positions) == ('image_missing', [2, 4])
    assert (empty.kind, empty.positions) == ('image_empty', [1])
    assert check_listed(CONTENT, str(folder / 'nowhere'))[0].positions == [*range(6)]
    names = [dict(file_name='a\x00b'), dict(file_name='\ud800'), dict(file_name=''), dict(), 5]
    assert check_listed(dict(images=names), str(folder))[0].positions == [0, 1]


def test_the_other_unicode_spelling(folder):
    name = unicodedata.normalize('NFD', NAMES[3])
    os.rename(folder / NAMES[3], folder / name)
    (missing,) = check_listed(CONTENT, str(folder))
    assert 'other Unicode spelling' in missing.describe(CONTENT, 3)


def test_images_that_cannot_be_read(folder):
    os.truncate(folder / '0.jpg', 0)
    os.truncate(folder / '1.jpg', 1500)
    (folder / '4.jpg').write_text('<html>')
    found = opened(folder)
    assert [*found] == [('image_unreadable', i) for i in (0, 1, 4)]
    assert 'it is empty' in found['image_unreadable', 0] and 'truncated' in found['image_unreadable', 1]
    assert [*opened(folder, whole=False)] == [('image_unreadable', i) for i in (0, 4)]  # a header is enough there


@pytest.mark.parametrize(('ending', 'options'), [('jpg', {}), ('jpg', dict(progressive=True)), ('png', {})])
def test_files_without_their_end_are_truncated(tmp_path, ending, options):
    noise = Image.effect_noise((WIDTH, HEIGHT), 50)
    path, preview = tmp_path / f'a.{ending}', tmp_path / 'preview.jpg'
    noise.resize((8, 8)).save(preview)
    exif = b'Exif\x00\x00' + preview.read_bytes()  # which has an end of its own
    noise.save(path, exif=exif, **options)
    data = path.read_bytes()
    for more in (b'', b'\x00' * 99, b'\xff\xda\xff'):
        path.write_bytes(data + more)
        check_file(path)
    for damaged in (data[:-2], data[: len(data) * 2 // 3], data[:-20] + bytes(20)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match='truncated|broken'):
            check_file(path)
        with pytest.raises(InputError, match='without the mark that ends it'):
            check_end(path)


def test_other_sizes_than_annotated(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new('RGB', (WIDTH, HEIGHT)).save(folder / '0.jpg', exif=exif)
    Image.new('RGB', (WIDTH, HEIGHT + 1)).save(folder / '5.jpg')
    found = opened(folder, whole=False)
    assert found['image_size', 0] == 'it is loaded as 48x64 but annotated as 64x48: mmcv turns images as EXIF says'
    assert found['image_size', 5] == 'it is loaded as 64x49 but annotated as 64x48'
    assert len(found) == 2


@pytest.mark.parametrize('ending', ['jpg', 'png', 'tif', 'webp', 'bmp'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_size_is_that_of_mmcv(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f'a.{ending}'
    Image.new('RGB', (WIDTH, HEIGHT)).save(path, exif=exif)
    assert loaded_size(path) == mmcv.imfrombytes(path.read_bytes()).shape[1::-1]  # as LoadImageFromFile


def test_damaged_exif_data_is_no_problem(tmp_path):
    path = tmp_path / 'a.jpg'
    Image.new('RGB', (WIDTH, HEIGHT)).save(path, exif=b'Exif\x00\x00MM\x00*\x00\x00\xff\xff\xff')
    assert loaded_size(path) == (WIDTH, HEIGHT) == mmcv.imfrombytes(path.read_bytes()).shape[1::-1]
