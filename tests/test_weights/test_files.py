"""Reading and writing files of weights, and what is refused."""

import argparse
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from xvit_det import InputError
from xvit_det.weights.files import find_weights, read_checkpoint, read_state_dict, sha256, write_weights

WEIGHTS = {'a.weight': torch.arange(6.0).reshape(2, 3), 'b': torch.tensor(3)}


@pytest.mark.parametrize('name', ['w.pth', 'w.safetensors'])
def test_what_is_written_is_read(tmp_path, name):
    table = torch.arange(8.0).reshape(4, 2)
    weights = WEIGHTS | dict(part=table[1:3], other=table[2:], turned=table.T)  # of one memory, overlapping
    write_weights(tmp_path / name, weights, dict(config='c', sha256='0'))
    content = read_checkpoint(tmp_path / name)
    assert content['meta'].items() >= dict(config='c', sha256='0').items()
    read = read_state_dict(tmp_path / name)
    assert list(read) == sorted(weights) or list(read) == list(weights)
    assert all(torch.equal(read[key], weight) for key, weight in weights.items())
    assert (tmp_path / name).stat().st_size < 4000
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / name))  # as every Runner does
    assert all(torch.equal(loaded['state_dict'][key], weight) for key, weight in weights.items())


@pytest.mark.parametrize('key', ['state_dict', 'model', 'teacher'])
def test_weights_are_found_where_others_keep_them(key):
    assert find_weights({key: WEIGHTS, 'epoch': 3, 'optimizer': {'x': 1}}) == WEIGHTS


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite(tmp_path, value, dtype):
    weights = WEIGHTS | dict(c=torch.tensor([1, value, 3], dtype=dtype))
    torch.save(dict(state_dict=weights), tmp_path / 'w.pth')
    with pytest.raises(InputError, match=r'w\.pth has weights that are not finite: 1 of the 3 values of c '):
        read_state_dict(tmp_path / 'w.pth')


def test_masks_may_hold_infinity(tmp_path):
    weights = WEIGHTS | dict(attn_mask=torch.full((2,), float('-inf')))
    torch.save(weights, tmp_path / 'w.pth')
    assert read_state_dict(tmp_path / 'w.pth').keys() == weights.keys()


@pytest.mark.parametrize('content', [[WEIGHTS], list(WEIGHTS.values()), dict(state_dict=3), WEIGHTS['b'], 'text'])
def test_no_weights_by_name(tmp_path, content):
    torch.save(content, tmp_path / 'w.pth')
    with pytest.raises(InputError, match=r'w\.pth holds no weights'):
        read_state_dict(tmp_path / 'w.pth')


def test_hash(tmp_path):
    (tmp_path / 'x').write_bytes(b'abc')
    assert sha256(tmp_path / 'x').startswith('ba7816bf')


@pytest.mark.parametrize('content', [b'', b'not safetensors', b'\x40\0\0\0\0\0\0\0{"a": 1}'])
def test_broken_safetensors(tmp_path, content):
    (tmp_path / 'w.safetensors').write_bytes(content)
    with pytest.raises(
        InputError, match=r'w\.safetensors cannot be read as PyTorch weights: it is (empty|no safetensors file)'
    ):
        read_state_dict(tmp_path / 'w.safetensors')


@pytest.mark.parametrize('name', ['w.pth', 'w.safetensors'])
def test_half_a_file(tmp_path, name):
    write_weights(tmp_path / name, {'a': torch.zeros(1000)}, {})
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:2000])
    with pytest.raises(InputError, match=rf'{name} cannot be read as PyTorch weights'):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize('name', ['w.pth', 'w.safetensors'])
def test_no_file(tmp_path, name):
    with pytest.raises(InputError, match=rf'{name} does not exist'):
        read_state_dict(tmp_path / name)


def test_an_address_is_downloaded_once(tmp_path, monkeypatch):
    asked = []

    def download(address, path):
        asked.append(address)
        write_weights(Path(path), WEIGHTS, {})

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        assert read_state_dict('https://nowhere/w.safetensors').keys() == WEIGHTS.keys()
        assert CheckpointLoader.load_checkpoint('https://nowhere/w.safetensors')['state_dict'].keys() == WEIGHTS.keys()
    assert asked == ['https://nowhere/w.safetensors']


def test_what_could_run_code_is_read_on_purpose_only(tmp_path, monkeypatch):
    """As DINO's and DeiT's training checkpoints, which hold their arguments."""
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)  # which commands set
    torch.save(dict(model=WEIGHTS, args=argparse.Namespace(lr=1)), tmp_path / 'w.pth')
    with pytest.raises(
        InputError, match=r'also holds argparse\.Namespace.*`xvit-det convert .*w\.pth --trust`'
    ) as error:
        read_state_dict(tmp_path / 'w.pth')
    assert '\n' not in str(error.value)
    assert read_state_dict(tmp_path / 'w.pth', trust=True).keys() == WEIGHTS.keys()


def test_without_the_package(tmp_path, monkeypatch):
    write_weights(tmp_path / 'w.safetensors', WEIGHTS, {})
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    with pytest.raises(InputError, match='need the package safetensors: `pip install safetensors`'):
        read_state_dict(tmp_path / 'w.safetensors')


def test_a_folder_that_does_not_exist(tmp_path):
    for name in ('w.pth', 'w.safetensors'):
        with pytest.raises(InputError, match='cannot be written'):
            write_weights(tmp_path / 'no' / name, WEIGHTS, {})


def test_averaged_weights_come_first(tmp_path):
    averaged = {name: weight + 1 for name, weight in WEIGHTS.items()}
    for raw, ema in (('state_dict', 'state_dict_ema'), ('model', 'model_ema')):
        torch.save({raw: WEIGHTS, ema: averaged}, tmp_path / 'w.pth')
        found = read_state_dict(tmp_path / 'w.pth')
        assert all(torch.equal(found[name], averaged[name]) for name in averaged)


@pytest.mark.parametrize(
    ('content', 'defect'),
    [
        (b'hello world', 'it is a text file'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:1', 'a pointer of git-lfs'),
        (b'', 'it is empty'),
        (b'<html>404</html>', 'it is a text file'),
        (b'(lp0', 'it is a text file'),
        (b'PK\x03\x04 and no more', 'it is cut off'),
        (b'\x40\0\0\0\0\0\0\0{"a": 1}', r'whose name must end in \.safetensors'),
        (bytes(range(256)), 'damaged or of another format'),
    ],
)
def test_what_is_no_checkpoint_is_one_sentence(tmp_path, content, defect):
    (tmp_path / 'w.pth').write_bytes(content)
    for trust in (False, True):
        with pytest.raises(InputError, match=rf'w\.pth cannot be read as PyTorch weights: .*{defect}') as error:
            read_state_dict(tmp_path / 'w.pth', trust)
        assert '\n' not in str(error.value)


def test_addresses_with_equal_file_names_are_different_files(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))

    def download(address: str, path: str) -> None:
        write_weights(Path(path), {'w': torch.tensor(float(address.count('b')))}, {})

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for repository, value in (('a', 0), ('b', 1)):
        address = f'https://hub.io/{repository}/model.safetensors?download=true'
        assert read_state_dict(address)['w'] == value + 1  # one b is in "hub"


def test_an_address_that_does_not_answer_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    with pytest.raises(InputError, match='http://127.0.0.1:9/w.pth cannot be downloaded'):
        read_state_dict('http://127.0.0.1:9/w.pth')
