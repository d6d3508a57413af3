"""mmpretrain in an environment that has transformers 5."""

import os
import subprocess
import sys
from pathlib import Path


def test_mmpretrain_is_imported_beside_transformers():
    code = (
        'import xvit_det, transformers\n'
        "model = xvit_det.create_model('xvit_t_in1k')\n"
        'from mmpretrain.registry import MODELS\n'
        "print(type(model.backbone).__name__, transformers.__version__.split('.')[0], MODELS.get('RAM').__name__)\n"
    )
    env = {**os.environ, 'PYTHONPATH': str(Path(sys.prefix, 'frameworks'))}
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, check=True)
    assert run.stdout.split()[-3:-1] == ['XViT', '5'], run.stdout
