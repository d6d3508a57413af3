"""Objects of a video followed from frame to frame, by ByteTrack (arXiv 2110.06864)."""

from dataclasses import replace

import numpy as np

from xvit_det.errors import InputError
from xvit_det.inference.results import Prediction

START = 0.5  # score from which on an object is worth a track of its own


class Tracker:
    """Numbers the objects in the frames of one video, in the order of the frames.

    Args:
        fps: Frames per second: an object that is out of sight for a second is given up.

    Raises:
        InputError: The package trackers is not installed.
    """

    def __init__(self, fps: float) -> None:
        try:
            from trackers import ByteTrackTracker
        except ModuleNotFoundError as error:
            raise InputError(
                f"tracks in videos need trackers (no module {error.name}): `pip install 'xvit_det[track]'`, or go "
                'without them by --no-tracks'
            ) from None
        self._tracker = ByteTrackTracker(
            frame_rate=fps, track_activation_threshold=START, high_conf_det_threshold=START
        )

    def update(self, prediction: Prediction) -> Prediction:
        """The next frame's objects with ``tracks``: -1 until an object was found in two frames running."""
        detections = prediction.to_supervision()
        detections.data['index'] = np.arange(len(prediction))  # the tracker changes the order
        tracked = self._tracker.update(detections)
        tracks = np.full(len(prediction), -1)
        if len(tracked):
            tracks[tracked.data['index']] = tracked.tracker_id
        return replace(prediction, tracks=tracks)
