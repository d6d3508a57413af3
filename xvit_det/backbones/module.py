"""What backbones derive from: mmengine's ``BaseModule``, or without mmengine as much of it as they need."""

import copy
import logging
from importlib.util import find_spec
from typing import Any

from torch import nn

from xvit_det.errors import INSTALL_OPENMMLAB, InputError

HAS_MMENGINE = find_spec('mmengine') is not None
PRETRAINED: tuple[Any, ...] = ('Pretrained',)  # the type in init_cfg

if HAS_MMENGINE:
    from mmengine.logging import print_log
    from mmengine.model import BaseModule, PretrainedInit

    PRETRAINED += (PretrainedInit,)
else:

    def print_log(msg: str, logger: str, level: int = logging.INFO) -> None:
        """Log to Python's logger ``xvit_det`` instead of mmengine's ``'current'``."""
        logging.getLogger('xvit_det').log(level, msg)

    class BaseModule(nn.Module):  # type: ignore[no-redef]
        """A module with ``init_cfg``; :class:`xvit_det.backbones.Backbone` loads pretrained weights itself."""

        def __init__(self, init_cfg: Any = None) -> None:
            super().__init__()
            self.init_cfg = copy.deepcopy(init_cfg)
            self.is_init = False

        def init_weights(self) -> None:
            """Refuse mmengine's initializers."""
            if self.init_cfg:
                raise InputError(
                    f'init_cfg {self.init_cfg}, which is not of type Pretrained, needs mmengine: {INSTALL_OPENMMLAB}'
                )
            self.is_init = True
