"""Shifts of hue in both directions, as colour jitter draws them."""

import colorsys

import mmcv
import numpy as np
import pytest

import xvit_det  # noqa: F401  (corrects mmcv)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('shift', [-0.5, -0.1, 0.0, 0.1, 0.5])
def test_hue_is_shifted(backend, shift):
    image = np.full((2, 2, 3), (20, 90, 200), dtype=np.uint8)  # BGR
    shifted = mmcv.adjust_hue(image, shift, backend=backend)
    hue, value = colorsys.rgb_to_hsv(200 / 255, 90 / 255, 20 / 255)[::2]
    found = colorsys.rgb_to_hsv(*(shifted[0, 0, ::-1] / 255))
    assert min(abs(found[0] - (hue + shift) % 1), 1 - abs(found[0] - (hue + shift) % 1)) < 0.02
    assert found[2] == pytest.approx(value, abs=0.02)
