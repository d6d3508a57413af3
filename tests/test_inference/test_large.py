"""One pass at full size, and tiles."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xvit_det
from xvit_det.errors import InputError
from xvit_det.inference import predict_tiles
from xvit_det.inference.results import Prediction


@pytest.fixture(scope='module')
def large(tmp_path_factory, scenes):
    """A drawn scene of four times the width and height."""
    path = tmp_path_factory.mktemp('large') / 'large.png'
    image = Image.open(next((scenes / 'val2017').iterdir()))
    image.resize((image.width * 4, image.height * 4)).save(path)
    return path


def seen_sizes(model) -> list[tuple[int, int]]:
    """Sizes (h, w) of what the backbone gets from now on."""
    sizes: list[tuple[int, int]] = []
    model.model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape[-2:])))
    return sizes


def resizing(checkpoint: Path, folder: Path) -> Path:
    """The same checkpoint with a config that makes images smaller."""
    config = next(checkpoint.parent.glob('*.py'))
    read = "dict(type='LoadImageFromFile'),"
    assert read in config.read_text()
    text = config.read_text().replace(read, f"{read} dict(scale=(192, 64), type='Resize'),")
    (folder / config.name).write_text(text)
    return Path(shutil.copy(checkpoint, folder))


@pytest.mark.parametrize('kind', ['detector', 'segmentor'])
def test_full_size_leaves_out_resizing(kind, large, request, tmp_path):
    checkpoint = resizing(request.getfixturevalue(kind), tmp_path)
    sizes = []
    for full_size in (False, True):
        model = xvit_det.load(checkpoint, full_size=full_size)
        seen = seen_sizes(model)
        assert model.predict(large, score=0.0).size == (512, 1536)
        sizes += seen
    assert sizes == [(64, 192), (512, 1536)]


def test_full_size_without_a_step_that_resizes(detector, tmp_path):
    checkpoint = resizing(detector, tmp_path)
    config = next(tmp_path.glob('*.py'))
    config.write_text(config.read_text().replace("type='Resize'", "type='mmcv.Normalize'"))
    with pytest.raises(InputError, match='have no Resize that could be left out'):
        xvit_det.load(checkpoint, full_size=True)


class Brightness:
    """A detector with a known answer: one box around all bright pixels of what it sees."""

    classes = ('spot',)
    task = 'detection'

    def predict(self, pixels: np.ndarray, score: float) -> Prediction:
        rows, columns = np.nonzero(pixels[..., 0] > 128)
        boxes = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]) if len(rows) else []
        boxes = np.reshape(boxes, (-1, 4)).astype(float)
        masks = np.zeros((len(boxes), *pixels.shape[:2]), bool)
        if len(boxes):
            masks[0] = pixels[..., 0] > 128
        # Surer of more pixels.
        scores = np.full(len(boxes), len(rows) / 1000)
        return Prediction(np.zeros(len(boxes), int), scores, self.classes, pixels.shape[:2], boxes, masks)


def test_tiles_are_put_where_they_were_and_halves_are_dropped():
    image = np.zeros((300, 500, 3), np.uint8)
    spots = [(20, 30, 40, 50), (90, 110, 110, 130), (450, 250, 470, 270)]  # the second lies across tiles of 100
    for x1, y1, x2, y2 in spots:
        image[y1:y2, x1:x2] = 255
    found = predict_tiles(Brightness(), image, tile=100, overlap=0.3)
    assert sorted(map(tuple, found.boxes.astype(int).tolist())) == spots
    for box, mask in zip(found.boxes.astype(int), found.masks, strict=True):
        x1, y1, x2, y2 = box
        assert mask.shape == (300, 500) and mask.sum() == 400 and mask[y1:y2, x1:x2].all()
    without = predict_tiles(Brightness(), image, tile=100, overlap=0.0)
    assert len(without) > 3  # in pieces: the overlap is what the whole one needs


def test_objects_inside_one_another_stay():
    """Of a class, in one tile and across tiles: only what two tiles share is compared."""
    outer, inner, alone = (0, 0, 90, 90), (10, 10, 30, 30), (65, 65, 85, 85)

    class Nested(Brightness):
        def predict(self, pixels: np.ndarray, score: float) -> Prediction:
            y, x = pixels[0, 0, 1], pixels[0, 0, 2]
            h, w = pixels.shape[:2]
            boxes = np.array([outer, inner, alone], float) - [x, y, x, y]
            boxes = boxes.clip(0, [w, h, w, h])
            boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)]
            return Prediction(np.zeros(len(boxes), int), np.ones(len(boxes)), self.classes, (h, w), boxes)

    image = np.zeros((120, 120, 3), np.uint8)
    image[..., 1], image[..., 2] = np.mgrid[:120, :120]
    for tile in (120, 80):
        found = predict_tiles(Nested(), image, tile=tile, overlap=0.5)
        boxes = {tuple(box) for box in found.boxes.astype(int).tolist()}
        assert {inner, alone} <= boxes and found.masks is None
        assert (outer in boxes) == (tile == 120)


def test_one_tile_is_the_whole_image(detector, scenes):
    model = xvit_det.load(detector)
    for image in (scenes / 'val2017').iterdir():
        usual, tiled = model.predict(image, score=0.01), predict_tiles(model, image, tile=400, score=0.01)
        np.testing.assert_array_equal(tiled.boxes, usual.boxes)
        np.testing.assert_array_equal(tiled.masks, usual.masks)


def test_tiles_of_a_real_model(detector, large):
    model = xvit_det.load(detector)
    sizes = seen_sizes(model)
    found = predict_tiles(model, large, tile=256, overlap=0.25, score=0.01)
    assert len(sizes) == 3 * 8  # (512 - 64) / 192 rounded up, by (1536 - 64) / 192
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert found.draw().size[0] >= 1536
    nothing = predict_tiles(model, np.zeros((64, 64, 3), np.uint8), tile=256, score=1.0)
    assert len(nothing) == 0 and nothing.draw().size


def test_tiles_refuse(detector, segmentor, large):
    model = xvit_det.load(detector)
    with pytest.raises(InputError, match='not 0 and 0.2'):
        predict_tiles(model, large, tile=0)
    with pytest.raises(InputError, match='not 100 and 1.0'):
        predict_tiles(model, large, tile=100, overlap=1.0)
    with pytest.raises(InputError, match='tiles are for detectors'):
        predict_tiles(xvit_det.load(segmentor), large, tile=256)
    with pytest.raises(InputError, match='does not exist'):
        predict_tiles(model, 'missing.jpg')
