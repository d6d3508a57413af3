"""mmseg's mean IoU together with the IoU of each class, which mmseg only prints."""

import torch
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` that also returns ``IoU/<class>`` in percent; a class that is nowhere has none.

    Its arguments are those of ``IoUMetric``.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``aAcc``, ``mIoU``, ``mAcc`` and ``IoU/<class>``.

        Args:
            results: For each image, pixels of each class in the intersection, in the union, predicted and annotated.
        """
        metrics = super().compute_metrics(results)
        intersections, unions = (torch.stack(areas).sum(dim=0) for areas in list(zip(*results, strict=True))[:2])
        for name, intersection, union in zip(self.dataset_meta['classes'], intersections, unions, strict=True):
            if union:
                metrics[f'IoU/{name}'] = float(100 * intersection / union)
        return metrics
