# hybrid_vin_in1k.py with the 12 heads that the code asks for.
_base_ = 'hybrid_vin_in1k.py'

model = dict(backbone=dict(arch='base'))
