"""What a measurement is of. Imports no PyTorch, so that the command line's help appears at once."""

from dataclasses import dataclass

from xvit_det.errors import InputError

Size = tuple[int, int]
DTYPES = {'fp32': 'float32', 'bf16': 'bfloat16', 'fp16': 'float16'}
MODES = ('eager', 'compiled', 'fused', 'fused-compiled', 'training', 'training-compiled')
# Peers have no fuse(): tables and plots compare a fused model with the peers in the unfused mode.
UNFUSED = {'fused': 'eager', 'fused-compiled': 'compiled'}
PHASES = {'training': 'train', 'test': 'test'}  # what a detector does: the split whose data it takes


@dataclass(frozen=True)
class Case:
    """The settings shared by all models that are compared.

    Args:
        size: Height and width of the images in pixels.
        batch: Images per call.
        dtype: One of ``DTYPES``. Inference casts weights and images to it; training keeps fp32 weights and autocasts.
        mode: One of ``MODES``.
        device: ``'cpu'`` or ``'cuda'``.
        with_cp: Whether activations are recomputed in the backward pass; ``None``: the model's default.
    """

    size: Size
    batch: int
    dtype: str
    mode: str
    device: str = 'cpu'
    with_cp: bool | None = None

    @property
    def training(self) -> bool:
        return self.mode.startswith('training')

    def __str__(self) -> str:
        text = f'{size_name(self.size)}, batch {self.batch}, {self.dtype}, {self.mode}'
        return f'{text}, with_cp' if self.with_cp else text

    def keys(self, model: str) -> dict:
        """The part of a record's row that identifies what was measured."""
        keys = dict(model=model, size=size_name(self.size), batch=self.batch, dtype=self.dtype, mode=self.mode)
        return keys if self.with_cp is None else keys | dict(with_cp=self.with_cp)


def parse_size(text: str) -> Size:
    """Height and width from ``224`` or ``800x1344``.

    Raises:
        InputError: Anything else.
    """
    sides = text.split('x')
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise InputError(f'size {text!r} is neither a side such as 224 nor a height and width such as 800x1344')
    return int(sides[0]), int(sides[-1])


def size_name(size: Size) -> str:
    """The inverse of :func:`parse_size`."""
    return str(size[0]) if size[0] == size[1] else f'{size[0]}x{size[1]}'
