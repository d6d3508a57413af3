"""The benchmark of labelled images: what each start begins with, and that an interrupted run goes on."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import how_many_images  # noqa: E402

pytestmark = pytest.mark.heavy


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(*starts: str) -> list[dict]:
        argv = ['--kinds', 'context', '--images', '100', '--steps', '2', '--align-steps', '2', '--starts', *starts]
        paths = ['--data', 'data', '--work-dir', 'work', '--json', 'record.json']
        monkeypatch.setattr(sys, 'argv', ['how_many_images.py', *argv, *paths])
        how_many_images.main()
        return json.loads(Path('record.json').read_text())['rows']

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(how_many_images, 'SCENES', dict(num_train=100, num_val=4))
    how_many_images.start_weights.cache_clear()
    return run


def test_starts_are_what_their_names_say(run, monkeypatch):
    rows = run('pretrained', 'linearized')
    assert [row['start'] for row in rows] == ['pretrained', 'linearized']
    assert Path('record.png').is_file()
    for start, detector in (
        ('pretrained', 'work/plain_xnorm/iter_2.pth'),
        ('linearized', 'work/plain_linearized/linearized.pth'),
    ):
        begun = torch.load(f'work/{start}_for_context.pth', weights_only=True)
        weights = torch.load(detector, weights_only=True)['state_dict']
        assert any('.attn.gamma_q' in name for name in begun)  # XNorm's
        assert all(torch.equal(weight, weights[name]) for name, weight in begun.items())
        trained = torch.load(f'work/context_100_{start}_0/iter_2.pth', weights_only=True)['state_dict']
        # Two small steps at the first rates of the warm-up leave the weights where they were, nearly.
        for name in ('backbone.blocks.3.attn.qkv.weight', 'backbone.blocks.0.mlp.0.weight'):
            torch.testing.assert_close(trained[name], begun[name], rtol=0, atol=5e-3)
    monkeypatch.setattr(how_many_images, 'train', None)  # nothing is left to train
    assert run('pretrained', 'linearized') == rows
