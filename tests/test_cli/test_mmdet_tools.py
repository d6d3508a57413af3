"""mmdet's own tools run on our models without compiled ops, although they import mmdet before us."""

import subprocess
import sys
from pathlib import Path

import mmdet

TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'


def run(tool: str, *argv: str, cwd: Path) -> str:
    command = [sys.executable, str(TOOLS / tool), *argv]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_train_test_and_browse(coco_folder, write_config, tmp_path):
    more = "train_cfg['max_epochs'] = 1\n"
    more += "train_dataloader['dataset'] = train_dataloader['dataset']['dataset']\n"  # browsing never ends otherwise
    more += "train_dataloader['persistent_workers'] = False\n"
    config = write_config(coco_folder, more)
    run('train.py', config, '--work-dir', 'work', cwd=tmp_path)
    shown = run('test.py', config, 'work/epoch_1.pth', '--work-dir', 'work', cwd=tmp_path)
    assert 'coco/bbox_mAP' in shown or 'empty' in shown  # after one epoch it may find nothing
    run('analysis_tools/browse_dataset.py', config, '--output-dir', 'seen', '--not-show', cwd=tmp_path)
    assert len(list((tmp_path / 'seen').rglob('*.png'))) == 4
