"""Test-time augmentation for instance segmentation: mmdet's model merges boxes by NMS but drops the masks."""

import torch
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

FLIPPED_AXES = {'horizontal': [-1], 'vertical': [-2], 'diagonal': [-2, -1]}


def register_instance_tta() -> None:
    """Register ``InstanceTTAModel``; not at import, because its base class needs mmdet."""
    if 'InstanceTTAModel' in MODELS:
        return
    from mmcv.ops import batched_nms
    from mmdet.models import DetTTAModel
    from mmdet.structures import DetDataSample

    @MODELS.register_module()
    class InstanceTTAModel(DetTTAModel):
        """Merges boxes as mmdet does, keeping each box's mask, flipped back for flipped views."""

        def _merge_single_sample(self, data_samples: list[DetDataSample]) -> DetDataSample:
            views = [sample.pred_instances for sample in data_samples]
            if not any(len(view) for view in views):
                return data_samples[0]
            metas = [sample.metainfo for sample in data_samples]
            boxes, scores = self.merge_aug_bboxes([v.bboxes for v in views], [v.scores for v in views], metas)
            labels = torch.cat([view.labels for view in views])
            merged = data_samples[0].new()
            found, keep = batched_nms(boxes, scores, labels, dict(self.tta_cfg.nms))
            found, keep = found[: self.tta_cfg.max_per_img], keep[: self.tta_cfg.max_per_img]
            result = InstanceData(bboxes=found[:, :4], scores=found[:, 4], labels=labels[keep])
            if 'masks' in views[0]:  # (n, H, W) in the original image, flipped for a flipped view
                axes = [FLIPPED_AXES[meta['flip_direction']] if meta['flip'] else [] for meta in metas]
                masks = [view.masks.flip(axis) for view, axis in zip(views, axes, strict=True)]
                result.masks = torch.cat(masks)[keep]
            merged.pred_instances = result
            return merged
