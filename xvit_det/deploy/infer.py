"""Run a model that `xvit-det export` wrote as ONNX: `python infer.py model.onnx photo.jpg --draw drawn.jpg`.

It needs numpy, Pillow and onnxruntime, and nothing of the package that it comes from."""

import argparse
import json
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

KEY = 'xvit_det'  # of what a file says about itself


class Model:
    """An `.onnx` file in onnxruntime, on its providers such as `['CUDAExecutionProvider']`, or CPU threads (0: all)."""

    def __init__(self, path: str, providers: list[str] | None = None, threads: int = 0) -> None:
        import onnxruntime  # not above: other runtimes share the rest

        if unknown := {*(providers or ())} - {*onnxruntime.get_available_providers()}:
            raise ValueError(f'this onnxruntime has {onnxruntime.get_available_providers()}, not {sorted(unknown)}')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers or ['CPUExecutionProvider'])
        if not (about := self.session.get_modelmeta().custom_metadata_map.get(KEY)):
            raise ValueError(f'{path} was not written by xvit-det export')
        self.about: dict[str, Any] = json.loads(about)

    def predict(self, images: list[Image.Image], score: float = 0.3) -> list[dict[str, np.ndarray]]:
        """Predict a batch of images, best of one size, as padding can change what is found. Each gets `boxes` (N, 4) as
        x1, y1, x2, y2, `scores`, `labels` and perhaps `masks` (N, H, W); or `label_maps` (H, W); or all `scores`."""
        images = [upright(image) for image in images]
        outputs = self.run([prepare(image, self.about['steps']) for image in images], images, score)
        if 'image' not in outputs:
            return [{name: values[i] for name, values in outputs.items()} for i in range(len(images))]
        number = outputs.pop('image')
        found = [{name: values[number == i] for name, values in outputs.items()} for i in range(len(images))]
        for objects, image in zip(found, images if 'masks' in outputs else (), strict=False):
            objects['masks'] = objects['masks'][:, : image.height, : image.width]  # cut from those of the largest image
        return found

    def run(self, prepared: list[np.ndarray], originals: list[Image.Image], score: float) -> dict[str, np.ndarray]:
        """The outputs for prepared images (H, W, 3) in RGB."""
        return dict(zip(self.about['outputs'], self.call(self.inputs(prepared, originals, score)), strict=True))

    def inputs(self, prepared: list[np.ndarray], originals: list[Image.Image], score: float) -> dict[str, np.ndarray]:
        """The model's own inputs for prepared images."""
        sizes, multiple = np.array([image.shape[:2] for image in prepared]), self.about['multiple']
        height, width = np.maximum(-(-sizes.max(0) // multiple) * multiple, self.about['least'])
        batch = np.zeros((len(prepared), height, width, 3), np.uint8)
        for target, image in zip(batch, prepared, strict=True):
            target[: image.shape[0], : image.shape[1]] = image
        before = np.array([[image.height, image.width] for image in originals])
        values = dict(images=batch, sizes=sizes, original_sizes=before, score=np.array(score, np.float32))
        return {name: values[name] for name in self.about['inputs']}

    def call(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(None, inputs)


def upright(image: Image.Image) -> Image.Image:
    """An image in RGB and 8 bits, turned as its EXIF orientation says."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # which convert would clip
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert('RGB')


def prepare(image: Image.Image, steps: list[dict[str, Any]]) -> np.ndarray:
    """Resize and crop an image as the model's test pipeline does: (H, W, 3) in RGB, uint8."""
    for step in steps:
        width, height = image.size
        if step['type'] == 'CenterCrop':
            w, h = min(width, step['crop_size'][0]), min(height, step['crop_size'][1])
            left, top = round((width - w) / 2), round((height - h) / 2)
            image = image.crop((left, top, left + w, top + h))
            continue
        if step['type'] == 'ResizeEdge':
            side, edge = step['scale'], step['edge']
            by_width = edge == 'width' or (edge == 'short' and width < height) or (edge == 'long' and width > height)
            size = (side, int(side * height / width)) if by_width else (int(side * width / height), side)
        elif step['keep_ratio']:
            factor = min(max(step['scale']) / max(image.size), min(step['scale']) / min(image.size))
            size = (int(width * factor + 0.5), int(height * factor + 0.5))
        else:
            size = tuple(step['scale'])
        image = resize(image, size, step['backend'], step['interpolation'])
    return np.asarray(image)


def resize(image: Image.Image, size: tuple[int, int], backend: str, interpolation: str) -> Image.Image:
    """To (width, height), as Pillow does, or OpenCV: bilinear in whole numbers, with weights of 11 bits."""
    if backend == 'pillow' or size == image.size:
        return image.resize(size, getattr(Image.Resampling, interpolation.upper()))
    pixels = np.asarray(image).astype(np.int32)
    if image.size == (2 * size[0], 2 * size[1]):  # where OpenCV averages
        return Image.fromarray((pixels.reshape(size[1], 2, size[0], 2, 3).sum((1, 3)) + 2 >> 2).astype(np.uint8))
    low, high, near, far = _taps(image.width, size[0])
    rows = pixels[:, low] * near[:, None] + pixels[:, high] * far[:, None]  # (H, w, 3)
    low, high, near, far = _taps(image.height, size[1])
    total = (near[:, None, None] * (rows[low] >> 4) >> 16) + (far[:, None, None] * (rows[high] >> 4) >> 16) + 2 >> 2
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def _taps(length: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each new pixel along a side: the two old ones beside it, and their weights from 0 to 2048."""
    at = ((np.arange(new) + 0.5) * (length / new) - 0.5).astype(np.float32)
    low, share = np.floor(at).astype(int), at - np.floor(at)
    far, near = (np.rint(part * np.float32(2048)).astype(np.int32) for part in (share, 1 - share))
    return low.clip(0, length - 1), (low + 1).clip(0, length - 1), near, far


def draw(image: Image.Image, objects: dict[str, np.ndarray], classes: list[str]) -> Image.Image:
    """A copy of an image with boxes, names and scores, masks shaded."""
    image = upright(image)
    for mask in objects.get('masks', ()):
        image.paste(Image.blend(image, Image.new('RGB', image.size, (250, 190, 40)), 0.5), mask=Image.fromarray(mask))
    canvas = ImageDraw.Draw(image)
    for box, label, score in zip(objects['boxes'], objects['labels'], objects['scores'], strict=True):
        canvas.rectangle([float(side) for side in box], outline=(230, 40, 40), width=2)
        canvas.text((float(box[0]) + 3, float(box[1]) + 2), f'{classes[label]} {score:.2f}', fill=(230, 40, 40))
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help='file that xvit-det export wrote')
    parser.add_argument('images', nargs='+')
    parser.add_argument('--score', type=float, default=0.3, help='leave out objects below it (%(default)s)')
    parser.add_argument('--provider', help="onnxruntime's, such as CUDAExecutionProvider (default: the CPU's)")
    parser.add_argument('--draw', metavar='FILE', help='draw what a detector finds in the first image')
    args = parser.parse_args()
    model = Model(args.model, [args.provider] if args.provider else None)
    for name in args.images:
        image = Image.open(name)
        found = model.predict([image], args.score)[0]
        if args.draw and 'boxes' in found and name == args.images[0]:
            draw(image, found, model.about['classes']).save(args.draw)
        shown = {key: values.tolist() for key, values in found.items() if key != 'masks'}
        print(json.dumps(dict(image=name, **shown, classes=model.about['classes'])))


if __name__ == '__main__':
    try:
        main()
    except Exception as error:  # onnxruntime has exceptions of its own
        raise SystemExit(f'error: {error}') from None
