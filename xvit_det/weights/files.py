"""Files of weights: PyTorch's and safetensors, read without running code that they may carry."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from xvit_det.errors import InputError

# Where checkpoints keep their weights: timm's and the ImageNet scripts' averages, which are what is evaluated, before
# mmengine's and the scripts' own; DINO's (which evaluates the teacher).
KEYS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'teacher')
SAFETENSORS = '.safetensors'


def read_state_dict(checkpoint: str | Path, trust: bool = False) -> dict[str, Tensor]:
    """Read the weights of a checkpoint without running code from it (``weights_only=True``).

    Args:
        checkpoint: A file or an http(s) address: safetensors if it ends in ``.safetensors``, else PyTorch's format.
            Weights may be at the top level or under one of ``KEYS``, of which the first counts.
        trust: Read a PyTorch file with whatever it holds, which may run code from it.

    Raises:
        InputError: The file does not exist, is not a checkpoint, holds no weights or weights that are not finite, or
            needs more than tensors and plain values.
    """
    return sound_weights(read_checkpoint(checkpoint, trust), checkpoint)


def sound_weights(content: Any, checkpoint: str | Path) -> dict[str, Tensor]:
    """The weights in what a checkpoint holds, which are at least one, and finite.

    Args:
        content: What :func:`read_checkpoint` read.
        checkpoint: Where it is from, for messages.

    Raises:
        InputError: There are none, or one is NaN or infinite.
    """
    weights = find_weights(content)
    if not weights:
        what = '' if isinstance(content, Mapping) else f' but a {type(content).__name__}'
        raise InputError(
            f'checkpoint {checkpoint} holds no weights{what}: no tensors by name at its top level, or in '
            f'{" or ".join(KEYS)}'
        )
    if name := not_finite(weights):
        number = int((~weights[name].float().isfinite()).sum())
        raise InputError(
            f'checkpoint {checkpoint} has weights that are not finite: {number} of the {weights[name].numel()} values '
            f'of {name} are NaN or infinite, as after training that diverged; take an earlier checkpoint'
        )
    return weights


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first weight that is NaN or infinite. Masks, which may hold minus infinity, are left out."""
    floats = ((name, weight) for name, weight in weights.items() if weight.is_floating_point())
    return next(
        (name for name, weight in floats if not (name.endswith('mask') or weight.float().isfinite().all())), None
    )


def read_checkpoint(checkpoint: str | Path, trust: bool = False) -> Any:
    """All that a checkpoint holds: the weights of a safetensors file under ``state_dict``, its header under ``meta``.

    Args: as :func:`read_state_dict`.
    """
    path = str(checkpoint)
    try:
        path = local_file(path)
        if path.endswith(SAFETENSORS):
            return _read_safetensors(path)
        return torch.load(path, map_location='cpu', weights_only=not trust)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f'checkpoint {checkpoint} does not exist') from None
    except pickle.UnpicklingError as error:
        if unsafe := re.search(r'GLOBAL (\S+)', str(error)):
            raise InputError(
                f'checkpoint {checkpoint} cannot be read as PyTorch weights: it also holds {unsafe[1]}, and '
                f'reading that can run code; if you trust the file, `xvit-det convert {checkpoint} --trust` reads all '
                f'of it once and writes the weights'
            ) from error
        raise InputError(f'checkpoint {checkpoint} cannot be read as PyTorch weights: {_defect(path)}') from error
    except (ImportError, AttributeError) as error:  # of a file that is trusted
        raise InputError(f'checkpoint {checkpoint} needs the code that wrote it: {error}') from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError) as error:
        raise InputError(f'checkpoint {checkpoint} cannot be read as PyTorch weights: {_defect(path)}') from error


def _defect(path: str) -> str:
    """What is wrong with a file that cannot be read, by its first bytes."""
    try:
        with open(path, 'rb') as file:
            start = file.read(512)
    except OSError as error:
        return f'{error.strerror}'.lower()
    if not start:
        return 'it is empty'
    if path.endswith(SAFETENSORS):
        return 'it is no safetensors file, or cut off'
    if start.startswith(b'PK'):
        return 'it is cut off or damaged'
    if start[8:9] == b'{' and start[5:8] == bytes(3):  # the size of a header, and the header
        return f'it is a safetensors file, whose name must end in {SAFETENSORS}'
    if start.isascii() and b'\0' not in start:
        pointer = ', a pointer of git-lfs instead of the file' if b'git-lfs' in start else ''
        return f'it is a text file{pointer}'
    return 'it is damaged or of another format'


def local_file(checkpoint: str | Path) -> str:
    """The path of a file; an http(s) address is downloaded into torch's cache, if it is not there.

    Raises:
        InputError: The address cannot be read.
    """
    address = str(checkpoint)
    if not is_address(address):
        return address
    # Many files are called model.safetensors: the cache tells them apart by their whole address.
    name = urlsplit(address).path.rsplit('/', 1)[1]
    path = Path(torch.hub.get_dir(), 'checkpoints', hashlib.sha256(address.encode()).hexdigest()[:12], name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path))
        except (OSError, ValueError) as error:
            raise InputError(f'{address} cannot be downloaded: {error}') from error
    return str(path)


def is_address(path: str) -> bool:
    """Whether it is an http(s) address instead of a file's path."""
    return path.startswith(('http://', 'https://'))


def weights_key(content: Any) -> str | None:
    """The first of ``KEYS`` under which a checkpoint has weights; ``None``: they are at its top level."""
    return next((key for key in KEYS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)), None)


def find_weights(content: Any) -> dict[str, Tensor]:
    """The tensors in a checkpoint, at its top level or under one of ``KEYS``; none if it holds none."""
    if key := weights_key(content):
        content = content[key]
    return {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}


def write_weights(path: Path, weights: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a file: safetensors if it ends so, with ``header`` as its metadata, else as mmengine does, under ``meta``.

    Raises:
        InputError: The file cannot be written.
    """
    # A part of a larger tensor would be saved as all of it.
    weights = {name: weight.detach().clone(memory_format=torch.contiguous_format) for name, weight in weights.items()}
    try:
        if path.suffix == SAFETENSORS:
            _write_safetensors(path, weights, header)
        else:
            torch.save(dict(meta=dict(header), state_dict=weights), path)
    except (OSError, RuntimeError) as error:
        raise InputError(f'{path} cannot be written: {error}') from error


def sha256(path: str | Path) -> str:
    """The hash of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_safetensors(path: str) -> dict[str, Any]:
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework='pt') as file:
            names = file.keys()
            return dict(state_dict={name: file.get_tensor(name) for name in names}, meta=file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error


def _write_safetensors(path: Path, weights: dict[str, Tensor], header: Mapping[str, str]) -> None:
    safetensors = _safetensors()
    try:
        safetensors.torch.save_file(weights, path, {'format': 'pt', **header})
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ModuleNotFoundError:
        raise InputError(
            'files that end in .safetensors need the package safetensors: `pip install safetensors`'
        ) from None
    return safetensors
