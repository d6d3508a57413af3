_base_ = 'mmdet::_base_/default_runtime.py'
custom_imports = dict(imports=['xvit_det'], allow_failed_imports=False)
