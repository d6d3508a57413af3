# A ViX of about DeiT-S's size; each config adds its mixer. Weights trained at 224 load as in mask_rcnn_xvit.py:
# position tables and Linformer's projections are resampled to the size of the images.
_base_ = 'mask_rcnn_xvit.py'

model = dict(backbone=dict(_delete_=True, type='ViX', arch='small', drop_path_rate=0.1))
