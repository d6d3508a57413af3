"""One process of test_ddp.py: gradients of an X-ViT pyramid on this process's share of four images, averaged by DDP.

Usage: ddp_worker.py OUTPUT.pth, alone or under torchrun.
"""

import gc
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from xvit_det import XViT

ARCH = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)

torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.randn(4, 3, 64, 48)
model = XViT(arch=ARCH, norm_eval=True).train()
if 'RANK' in os.environ:
    dist.init_process_group('gloo')
    images = images.chunk(dist.get_world_size())[dist.get_rank()]
    model = DistributedDataParallel(model)
loss = sum(level.square().mean() for level in model(images))
loss.backward()
if os.environ.get('RANK', '0') == '0':
    torch.save({name.removeprefix('module.'): p.grad for name, p in model.named_parameters()}, sys.argv[1])
if dist.is_initialized():
    del model, loss  # the model's part in the group first, then all together; gloo may abort otherwise
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
