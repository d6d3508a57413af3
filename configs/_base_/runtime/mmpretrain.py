_base_ = 'mmpretrain::_base_/default_runtime.py'
custom_imports = dict(imports=['xvit_det'], allow_failed_imports=False)
# 400 epochs would otherwise leave 400 checkpoints
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
