"""Learning from another network's feature maps, on images without labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from xvit_det.errors import InputError


@MODELS.register_module()
class FeatureDistillation(BaseModel):
    """Train a backbone to give the feature maps of a frozen teacher, whatever its architecture.

    The teacher's maps are normalised over their channels, a 1x1 convolution brings the student's to their width, and
    what is minimised is the smooth L1 distance: Feature Distillation (arXiv 2205.14141), Section 3, here with maps of
    any number and stride. A student's map with another stride is resized to the teacher's.

    Args:
        backbone: The student, with one map for each of the teacher's (``out_type='featmap'``).
        teacher: A backbone of any package that returns a tuple of maps (B, C, h, w), or a map. Its own configuration
            says where its weights come from.
        teacher_channels: Channels of the teacher's maps.
        data_preprocessor: OpenMMLab's. Both networks get the same images.
        init_cfg: OpenMMLab's.

    Raises:
        InputError: The two differ in their number of maps or in channels; at the first loss: the teacher has random
            weights.
    """

    def __init__(
        self,
        *,
        backbone: dict,
        teacher: dict,
        teacher_channels: int | Sequence[int],
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        init = teacher.get('init_cfg') or []
        self._reads_teacher = any(
            cfg['type'] == 'Pretrained' for cfg in ([init] if isinstance(init, Mapping) else init)
        )
        self.teacher_is_trained = any(teacher.get(key) for key in ('pretrained', 'checkpoint_path'))
        self.backbone = MODELS.build(backbone)
        self.teacher = MODELS.build(teacher).requires_grad_(False)
        widths = [teacher_channels] if isinstance(teacher_channels, int) else list(teacher_channels)
        own = self.backbone.out_channels
        if len(widths) != len(own):
            raise InputError(f'backbone has {len(own)} outputs, teacher_channels={teacher_channels} has {len(widths)}')
        self.projections = nn.ModuleList(nn.Conv2d(c, width, 1) for c, width in zip(own, widths, strict=True))

    def init_weights(self) -> None:
        """Initialise the student and load the teacher.

        Raises:
            InputError: The teacher's checkpoint has no weight of it: mmengine would only warn.
        """
        before = {name: weight.clone() for name, weight in self.teacher.state_dict().items()}
        super().init_weights()
        if self._reads_teacher:
            self.teacher_is_trained |= any(not w.equal(before[name]) for name, w in self.teacher.state_dict().items())
            if not self.teacher_is_trained:
                raise InputError(
                    'the checkpoint of model.teacher has no weight of it: if it is of a whole model, add '
                    "prefix='backbone.' to its init_cfg"
                )

    def train(self, mode: bool = True) -> 'FeatureDistillation':
        """Set the mode of the student; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The student's maps for images (B, 3, H, W)."""
        return self.backbone(inputs)

    def forward(self, inputs: Tensor | list[Tensor], data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Run the model as OpenMMLab's runners do.

        Args:
            inputs: Images (B, 3, H, W), or a list with them as its only view.
            data_samples: Not used.
            mode: ``'loss'``: the loss of each map, by name; ``'tensor'``: the student's maps.
        """
        images = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        maps = self.extract_feat(images)
        if mode == 'tensor':
            return maps
        if not self.teacher_is_trained:
            raise InputError(
                "model.teacher has random weights: give it init_cfg=dict(type='Pretrained', checkpoint=...), or what "
                'its class takes instead (pretrained, checkpoint_path)'
            )
        with torch.no_grad():
            targets = self.teacher(images)
        targets = [targets] if isinstance(targets, Tensor) else targets
        if len(targets) != len(maps):
            raise InputError(f'the teacher gives {len(targets)} maps, and the backbone {len(maps)}')
        pairs = zip(self.projections, maps, targets, strict=True)
        return {f'loss_map{i}': self._loss(*pair) for i, pair in enumerate(pairs)}

    def _loss(self, projection: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
        predicted = projection(student)
        if teacher.ndim != 4 or teacher.shape[1] != predicted.shape[1]:
            raise InputError(
                f'the teacher gives a tensor of shape {tuple(teacher.shape)} where a map (B, {predicted.shape[1]}, h, '
                f'w) is expected: set its outputs, and teacher_channels'
            )
        predicted = F.interpolate(predicted, teacher.shape[-2:], mode='bilinear', align_corners=False)
        # (B, C, h, w) -> (B, h, w, C), normalised without learned scales
        target = F.layer_norm(teacher.permute(0, 2, 3, 1), teacher.shape[1:2])
        return F.smooth_l1_loss(predicted.permute(0, 2, 3, 1), target)
