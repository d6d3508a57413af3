"""What is installed and what works here, for ``xvit-det env`` and bug reports.

It lists which distribution provides each module, whether torch and torchvision match, where mmcv's ops come from, which
devices there are, and for each feature whether it works here and, if not, what to do.
"""

import importlib
import io
import platform
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, distributions, version

import torch

import xvit_det
from xvit_det import kernels
from xvit_det.kernels import bfloat16_trial, winograd
from xvit_det.kernels.choice import asked
from xvit_det.kernels.onednn import DTYPES

FAMILY = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'mmseg')
LIBRARIES = ('torch', 'torchvision', 'numpy', 'cv2', 'pycocotools')
INSTALL = "`make setup`, or `pip install 'xvit_det[onedl]'`"


@dataclass
class Verdict:
    """Whether one feature works here; ``note`` says from what, or what to do."""

    works: bool
    note: str


@dataclass
class Report:
    """All that ``xvit-det env`` prints."""

    system: dict[str, str]
    modules: dict[str, str]
    devices: dict[str, str]
    features: dict[str, Verdict] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def trains(self) -> bool:
        """Whether detectors, classifiers and segmentors can be built here, and nothing is installed twice."""
        needed = ('torchvision', 'mmcv ops', 'detection', 'classification', 'segmentation')
        return all(self.features[name].works for name in needed) and not self.warnings


def providers() -> dict[str, list[str]]:
    """The installed distributions that contain each module of interest, as ``name version``."""
    found: dict[str, set[str]] = {name: set() for name in (*FAMILY, *LIBRARIES)}
    for distribution in distributions():
        for name in found.keys() & {file.parts[0] for file in distribution.files or ()}:
            found[name].add(f'{distribution.metadata["Name"]} {distribution.version}')
    return {name: sorted(those) for name, those in found.items()}


def family_warnings(modules: dict[str, list[str]]) -> list[str]:
    """Warn if both OpenMMLab families, or two distributions of one module, are installed over each other."""
    messages = []
    installed = {d.split()[0] for name in FAMILY for d in modules[name]}
    onedl = sorted(d for d in installed if d.startswith('onedl'))
    official = sorted(installed - set(onedl))
    if onedl and official:
        messages.append(
            f'Both OpenMMLab families are installed ({", ".join(onedl)} and {", ".join(official)}) and have '
            "overwritten each other's files: start from a new environment with one of them."
        )
    for name in ('mmcv', 'cv2'):
        if len(modules[name]) > 1:
            messages.append(
                f'{" and ".join(modules[name])} both install the module {name}: uninstall both, then install one.'
            )
    return messages


def attempt(action: Callable[[], str], remedy: str) -> Verdict:
    """Run an action that returns what it found; an exception makes the feature unavailable."""
    try:
        # The packages print remarks about missing optional parts.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            return Verdict(True, action())
    except Exception as error:  # whatever a broken installation raises belongs in the report
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Verdict(False, f'{reason} -> {remedy}')


def torchvision_works() -> str:
    """Call an operator: importing torchvision succeeds even if it was built for another torch."""
    import torchvision

    torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    return f'torchvision {torchvision.__version__} fits torch {torch.__version__}'


def ops_work() -> str:
    """Run mmcv's NMS, whichever library implements it."""
    ops = importlib.import_module('mmcv.ops')
    ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    path = str(importlib.import_module('mmcv._ext').__file__)
    compiled = path.endswith(tuple(EXTENSION_SUFFIXES))
    return f'compiled, {path}' if compiled else 'served by torchvision (rarer ops need `make setup-compiled`)'


def models_of(package: str) -> Callable[[], str]:
    """An action that imports everything a package's configs may name and counts the registered models."""

    def action() -> str:
        for part in ('datasets', 'evaluation', 'models'):
            importlib.import_module(f'{package}.{part}')
        registry = importlib.import_module(f'{package}.registry').MODELS
        return f'{package} {importlib.import_module(package).__version__} with {len(registry.module_dict)} modules'

    return action


def device_report() -> dict[str, str]:
    """The accelerators, and the precision that ``--amp`` can use on each device."""
    devices = {'cpu': f'{platform.machine()}, {torch.get_num_threads()} threads'}
    for i in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        bf16 = 'bfloat16 and float16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'float16'
        devices[f'cuda:{i}'] = f'{torch.cuda.get_device_name(i)}, {memory:.0f} GiB, {bf16}'
    if torch.backends.mps.is_available():
        devices['mps'] = 'Apple GPU'
    return devices


def onednn_verdict() -> Verdict:
    """Whether fused models compute their linear layers with oneDNN here, and the trial that decides."""
    if not DTYPES:
        return Verdict(False, 'this PyTorch has no oneDNN: fused models take its own linear layers')
    from xvit_det.kernels import linear_trial  # imports the compiler

    threads = torch.get_num_threads()
    trials = [f'{linear_trial.speedup(dtype, threads):.2f} in {str(dtype)[6:]}' for dtype in DTYPES]
    choice = asked(linear_trial.VARIABLE, linear_trial.CHOICES)
    note = f'times as fast as PyTorch: {", ".join(trials)}; {linear_trial.VARIABLE}={choice}'
    return Verdict(any(map(linear_trial.is_chosen, DTYPES)), f'in fused models on the CPU; {note}')


def winograd_verdict() -> Verdict:
    """Whether fused models compute convolutions with Winograd's algorithm here, and the trial that decides."""
    ratio = winograd.speedup(torch.get_num_threads())
    note = f'{ratio:.2f} times as fast as PyTorch; {winograd.VARIABLE}={asked(winograd.VARIABLE, winograd.CHOICES)}'
    return Verdict(winograd.is_chosen(), f'for convolutions in fused models on the CPU; {note}')


def bfloat16_verdict() -> Verdict:
    """Whether ``fuse(dtype='auto')`` chooses bfloat16 on this CPU, and the trial that decides."""
    ratio = bfloat16_trial.speedup(torch.get_num_threads())
    return Verdict(
        bfloat16_trial.is_faster(),
        f'{ratio:.2f} times as fast as float32 on the CPU; chosen above {bfloat16_trial.MARGIN}',
    )


def package_version() -> str:
    try:
        installed = f'{version("xvit_det")} installed'
    except PackageNotFoundError:
        installed = 'not installed'
    return f'xvit_det {xvit_det.__version__} from {xvit_det.__path__[0]}, {installed}'


def collect() -> Report:
    """Inspect everything. It takes some seconds, because it imports what is installed."""
    found = providers()
    report = Report(
        system={'Python': f'{platform.python_version()} at {sys.executable}', 'System': platform.platform()},
        modules={'xvit_det': package_version()} | {k: ', '.join(v) or 'not installed' for k, v in found.items()},
        devices=device_report(),
        warnings=family_warnings(found),
    )
    pair = 'install a matching pair: torch 2.N goes with torchvision 0.(N+15); ' + INSTALL
    features = {
        'backbones': Verdict(True, f'torch {torch.__version__}'),
        'torchvision': attempt(torchvision_works, pair),
        'mmcv ops': attempt(
            ops_work, f'{INSTALL}; after a change of torch `make setup-compiled` rebuilds compiled ops'
        ),
        'detection': attempt(models_of('mmdet'), INSTALL),
        'classification': attempt(models_of('mmpretrain'), INSTALL),
        'segmentation': attempt(models_of('mmseg'), INSTALL),
    }
    gpu = 'no CUDA device; training runs on the CPU'
    if torch.version.cuda is None:
        gpu = f'torch {torch.__version__} is built without CUDA; training runs on the CPU'
    has_gpu = torch.cuda.is_available()
    features['GPU'] = Verdict(has_gpu, f'CUDA {torch.version.cuda}' if has_gpu else gpu)
    features['mixed precision'] = Verdict(
        has_gpu, 'as most configs have it, or with --amp' if has_gpu else 'needs a GPU; --amp is ignored on a CPU'
    )
    fast = has_gpu and kernels.usable(torch.empty(1, device='cuda'))
    needs = 'not needed: PyTorch takes their place; they need an NVIDIA GPU (Ampere or newer), Triton and a C compiler'
    if has_gpu and not kernels.SWITCHED_ON:
        needs = 'not switched on: XVIT_DET_TRITON=1 does it, but they have not been run on a GPU yet'
    features['Triton kernels'] = Verdict(fast, 'in inference on the GPU' if fast else needs)
    features['oneDNN linear'] = onednn_verdict()
    features['Winograd conv'] = winograd_verdict()
    features['bfloat16'] = bfloat16_verdict()
    report.features = features
    return report
