"""``xvit-det predict``: drawn images and videos, predictions.json, and a sentence for everything that is wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import xvit_det
from xvit_det.cli import predict_run
from xvit_det.cli.predict import main as predict
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes
from xvit_det.errors import InputError
from xvit_det.hub import find_config
from xvit_det.inference.sources import find_images

REPO = Path(__file__).resolve().parents[2]
OUT = Path('predictions')


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Callable[[str], str]:
    """``trained(config)``: a checkpoint with the config beside it, of a model that finds much, as it knows nothing."""

    def save(name: str) -> str:
        folder = tmp_path_factory.getbasetemp() / f'of_{name}'
        if not folder.exists():
            folder.mkdir()
            torch.manual_seed(0)
            model = xvit_det.create_model(name)
            model.cfg.dump(folder / find_config(name).name)
            torch.save(model.state_dict(), folder / 'checkpoint.pth')
        return str(folder / 'checkpoint.pth')

    return save


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Folder, in the working directory, with two drawn scenes of one name in two folders, and one of another."""
    scenes = ensure_shapes(tmp_path / 'scenes', ContextSpec(num_train=1, num_val=2)) / 'val2017'
    folder = tmp_path / 'photos'
    for name, scene in (('a.png', 1), ('sub/a.png', 2), ('sub/b.jpg', 2)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(scenes / f'{scene:012}.png').save(folder / name)
    monkeypatch.chdir(tmp_path)
    return Path('photos')


def run(*argv: str | Path) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join([str(REPO), os.environ.get('PYTHONPATH', '')]))
    command = [sys.executable, '-m', 'xvit_det', 'predict', *map(str, argv)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def results() -> dict:
    return json.loads((OUT / 'predictions.json').read_text())


@pytest.mark.heavy
def test_a_folder_with_broken_files_is_done_except_for_them(photos, trained):
    (photos / 'text.jpg').write_text('this is no image')
    (photos / 'empty.png').write_text('')
    whole = (photos / 'sub' / 'b.jpg').read_bytes()
    (photos / 'sub' / 'half.jpg').write_bytes(whole[: len(whole) // 2])
    done = run(photos, '--checkpoint', trained('mask_rcnn_xvit_context'), '--score', '0', '--batch-size', '4')
    assert done.returncode == 1, done.stderr
    skipped = [line for line in done.stderr.splitlines() if line.startswith('skipped: ')]
    assert [line.split()[1] for line in skipped] == ['photos/empty.png', 'photos/sub/half.jpg', 'photos/text.jpg']
    assert done.stderr.splitlines()[-1] == 'error: 3 of 6 images could not be read, see above'
    assert len([line for line in done.stderr.splitlines() if not line.endswith('…')]) == 4
    assert 'Warning' not in done.stdout

    images = {image['id']: image['file_name'] for image in results()['images']}
    assert [*images.values()] == ['a.png', 'sub/a.png', 'sub/b.jpg']
    for name in images.values():
        drawn, image = cv2.imread(str(OUT / name)), cv2.imread(str(photos / name))
        assert drawn.shape == (384, 1152, 3)  # three times the size
        assert abs(cv2.resize(drawn, (384, 128)).astype(int) - image).mean() > 2
    coco = COCO(OUT / 'predictions.json')
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == ['sun', 'moon', 'day', 'night']
    rows = coco.loadAnns(coco.getAnnIds())
    assert rows and {row['image_id'] for row in rows} == {*images}
    assert all(coco.annToMask(row).shape == (128, 384) and 0 <= row['score'] <= 1 for row in rows)
    for category in coco.loadCats(coco.getCatIds(catIds=[row['category_id'] for row in rows])):
        (line,) = [line for line in done.stdout.splitlines() if f'│ {category["name"]} ' in line]
        assert int(line.split('│')[2]) == len(coco.getAnnIds(catIds=category['id']))
    assert '3 images in ' in done.stdout and 'images/s on cpu' in done.stdout


def write_video(path: Path, frames: int = 10, codec: str = 'mp4v') -> np.ndarray:
    """A video of 12.5 frames per second in which a scene moves to the right; gives its first frame."""
    scene = cv2.imread(str(next(Path('photos').glob('*.png'))))
    height, width = scene.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 12.5, (width, height))
    for i in range(frames):
        writer.write(np.roll(scene, 3 * i, axis=1))
    writer.release()
    return scene


@pytest.mark.heavy
def test_a_video_keeps_size_and_frame_rate_and_gets_tracks(photos, trained):
    scene = write_video(Path('film.mp4'))
    checkpoint = Path(trained('mask_rcnn_xvit_context'))
    done = run('film.mp4', '--checkpoint', checkpoint, '--score', '0.2', '--batch-size', '3')
    assert done.returncode == 0 and 'error' not in done.stderr and 'Warning' not in done.stderr, done.stderr
    capture = cv2.VideoCapture(str(OUT / 'film.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == 12.5
    frames = [frame for ok, frame in iter(capture.read, (False, None)) if ok]
    assert len(frames) == 10 and frames[0].shape == scene.shape
    assert [image['frame'] for image in results()['images']] == [*range(10)]
    assert '10 frames in ' in done.stdout


def test_a_video_that_breaks_off_is_reported(photos, trained, capfd):
    write_video(Path('film.avi'), codec='MJPG')
    content = Path('film.avi').read_bytes()
    Path('film.avi').write_bytes(content[: len(content) // 2])
    with pytest.raises(SystemExit) as stop:
        predict(['film.avi', '--checkpoint', trained('vin_cifar10')])
    assert stop.value.code == 1
    number = len(results()['images'])
    assert 0 < number < 9
    assert f'error: film.avi is damaged: {number} of its 10 frames could be read' in capfd.readouterr().err


def test_objects_that_stay_have_one_track():
    from xvit_det.inference import Prediction
    from xvit_det.inference.tracking import Tracker

    tracker = Tracker(fps=25)
    seen = []
    for step in range(6):
        boxes = np.array([[10, 10, 40, 40], [100, 50, 140, 90]]) + step * np.array([[2, 0] * 2, [-3, 0] * 2])
        order = [0, 1] if step % 2 else [1, 0]
        prediction = Prediction(np.array(order), np.array([0.9, 0.8]), ('a', 'b'), (100, 200), boxes=boxes[order])
        found = tracker.update(prediction)
        assert (found.boxes == boxes[order]).all()
        seen.append(dict(zip(found.labels.tolist(), found.tracks.tolist(), strict=True)))
    assert seen[0] == {0: -1, 1: -1} and len({*seen[-1].values()}) == 2
    assert all(tracks == seen[-1] for tracks in seen[1:]) and -1 not in seen[-1].values()
    empty = Prediction(np.array([], int), np.array([]), ('a', 'b'), (100, 200), boxes=np.zeros((0, 4)))
    assert len(tracker.update(empty).tracks) == 0


def test_a_segmentor_writes_label_maps(photos, trained, capsys):
    predict([str(photos), '--checkpoint', trained('semantic_fpn_xvit_shapes'), '--fuse'])
    model = xvit_det.load(trained('semantic_fpn_xvit_shapes'))
    for name in ('a.png', 'sub/a.png', 'sub/b.jpg'):
        label_map = cv2.imread(str(OUT / 'label_maps' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        assert (label_map == model.predict(photos / name).label_map).mean() > 0.99
        assert (OUT / name).is_file()
    assert 'mean share' in capsys.readouterr().out
    assert all('segmentation' in row and 'score' not in row for row in results()['annotations'])


def test_a_classifier_writes_its_best_classes(photos, trained, capsys, monkeypatch):
    monkeypatch.setattr(predict_run, 'LINE_SECONDS', -1)  # a line of progress after each image
    predict(
        [
            str(photos / '..' / 'photos' / 'a.png'),
            'photos/sub/*.jpg',
            '--checkpoint',
            trained('vin_cifar10'),
            '--top-k',
            '3',
        ]
    )
    first, second = results()['images']
    assert (first['file_name'], second['file_name']) == ('a.png', 'sub/b.jpg')
    out = capsys.readouterr().out
    assert len(first['classes']) == 3 and first['classes'][0]['name'] in out
    assert re.search(r'^1 of 2 images, \d+\.\d images/s, 0:\d\d left\n2 of 2 images, .*, 0:00 left$', out, re.MULTILINE)
    best = xvit_det.load(trained('vin_cifar10')).predict(photos / 'a.png', top_k=3)
    assert [row['name'] for row in first['classes']] == best.names


def test_nothing_found_is_said(photos, trained, capsys):
    predict([str(photos / 'a.png'), '--checkpoint', trained('mask_rcnn_xvit_context'), '--score', '1'])
    assert 'Nothing was found; a lower --score' in capsys.readouterr().out
    assert results()['annotations'] == []


def test_drawn_images_are_no_images_of_the_next_run(photos, trained):
    for _ in range(2):
        predict([str(photos), '--checkpoint', trained('vin_cifar10'), '--out', str(photos / 'drawn')])
        assert len(json.loads((photos / 'drawn' / 'predictions.json').read_text())['images']) == 3


@pytest.fixture
def refused(capfd, trained):
    """``refused(*argv)``: the sentence with which the command refuses its arguments."""

    def run(*argv: str | Path, checkpoint: str | None = None, status: int = 2) -> str:
        with pytest.raises(SystemExit) as stop:
            predict([*map(str, argv), '--checkpoint', checkpoint or trained('vin_cifar10')])
        assert stop.value.code == status
        (line,) = [line for line in capfd.readouterr().err.splitlines() if 'error: ' in line]
        return line

    return run


def test_sources_are_refused(refused, photos):
    assert "'nowhere/*.jpg' is not a file, a folder, a pattern" in refused('nowhere/*.jpg')
    assert "'nowhere.jpg' is not a file" in refused('nowhere.jpg')
    Path('empty').mkdir()
    assert 'empty and the folders in it hold no images (.jpg,' in refused('empty')
    Path('notes.txt').write_text('')
    assert 'notes.txt ends neither as images do' in refused('notes.txt')
    assert 'camera 7 cannot be read: there is none' in refused('7')
    Path('broken.mp4').write_text('this is no video')
    assert 'broken.mp4 cannot be read: it is missing, empty or damaged' in refused('broken.mp4')
    assert 'nowhere.mp4 cannot be read' in refused('nowhere.mp4')
    assert 'broken.mp4 ends neither' in refused(photos, 'broken.mp4')


def test_a_folder_that_cannot_be_read_is_refused(photos):
    os.chmod('.', 0o755)
    os.chmod(photos / 'sub', 0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # the superuser reads every folder
    try:
        with pytest.raises(InputError, match='photos/sub cannot be read: Permission denied'):
            find_images(['photos'])
    finally:
        os.seteuid(user)


def test_an_image_that_is_given_twice_counts_once(photos):
    assert len(find_images(['photos/a.png', str(photos.resolve() / 'a.png'), 'photos'])) == 3
    with pytest.raises(InputError, match='all images of photos are in the folder for results'):
        find_images(['photos'], leave_out=photos)


@pytest.mark.parametrize('batch_size', ['1', '3'])
def test_an_image_that_the_model_cannot_take_is_skipped(photos, trained, capsys, monkeypatch, batch_size):
    Image.open(photos / 'a.png').resize((200, 100)).save(photos / 'odd.png')
    forward = xvit_det.XViT.forward

    def refuse_odd(self, x, *args, **kwargs):
        if x.shape[-2:] != (128, 384):
            raise InputError('too small')
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(xvit_det.XViT, 'forward', refuse_odd)
    with pytest.raises(SystemExit, match='1'):
        predict(['photos', '--checkpoint', trained('mask_rcnn_xvit_context'), '--batch-size', batch_size])
    assert 'skipped: photos/odd.png: too small' in capsys.readouterr().err
    assert [image['file_name'] for image in results()['images']] == ['a.png', 'sub/a.png', 'sub/b.jpg']


def test_values_are_refused(refused, photos):
    for score in ('2', '-0.1', 'high', 'nan'):
        assert f"'{score}' is not a number from 0 to 1" in refused(photos, f'--score={score}')
    assert '--batch-size must be at least 1, not 0' in refused(photos, '--batch-size', '0')
    assert '--top-k must be at least 1, not -1' in refused(photos, '--top-k', '-1')
    assert "device 'warp' cannot be used" in refused(photos, '--device', 'warp')


def test_sizes_are_refused(refused, photos, trained):
    checkpoint = ('--checkpoint', trained('mask_rcnn_xvit_context'))
    assert '--tiles must be at least 1, not 0' in refused('photos', *checkpoint, '--tiles', '0')
    assert '--overlap 1: tiles that overlap wholly' in refused('photos', *checkpoint, '--overlap', '1')
    assert '--tiles and --batch-size: tiles are' in refused('photos', '--tiles', '100', '--batch-size', '2')
    assert 'tiles are for detectors, not for classification' in refused('photos', '--tiles', '100')
    assert 'not allowed with argument' in refused('photos', *checkpoint, '--tiles', '100', '--full-size')


def test_tiles_and_full_size(photos, trained, capsys):
    checkpoint = ('--checkpoint', trained('mask_rcnn_xvit_context'))
    (photos / 'text.jpg').write_text('this is no image')
    found = []
    for options in ((), ('--full-size',), ('--tiles', '96', '--overlap', '0.25')):
        with pytest.raises(SystemExit, match='1'):
            predict(['photos', *checkpoint, '--score', '0.01', *options])
        assert capsys.readouterr().err.count('skipped: photos/text.jpg') == 1
        assert [image['file_name'] for image in results()['images']] == ['a.png', 'sub/a.png', 'sub/b.jpg']
        found.append([row['bbox'] for row in results()['annotations']])
    assert found[0] == found[1]  # the config keeps the size anyhow
    assert found[2] != found[0]
    assert max(width for *_, width, _ in found[2]) <= 96


def test_models_are_refused(refused, photos, trained):
    detector = trained('mask_rcnn_xvit_context')
    assert 'is of another architecture than the config' in refused(
        photos, '--model', 'vin_cifar10', checkpoint=detector
    )
    assert 'did you mean vin_cifar10' in refused(photos, '--model', 'vin_cifar')
    assert 'nothing.pth does not exist' in refused(photos, checkpoint='nothing.pth')
    shutil.copy(detector, 'alone.pth')
    assert 'there is no config beside checkpoint alone.pth: name one with --config' in refused(
        photos, checkpoint='alone.pth'
    )
    Path('wrong.py').write_text("model = dict(type='ImageClassifierr')\ndefault_scope = 'mmpretrain'\n")
    assert 'ImageClassifierr' in refused(photos, '--model', 'wrong.py', checkpoint=detector)
    Path('no_data.py').write_text(
        Path(detector).with_name('mask_rcnn_xvit_context.py').read_text()
        + '\ntest_dataloader = val_dataloader = None\n'
    )
    Path('no_names.py').write_text(
        Path(detector).with_name('mask_rcnn_xvit_context.py').read_text()
        + "\ntest_dataloader['dataset']['metainfo'] = dict(classes='nowhere.txt')\n"
    )
    assert "classes='nowhere.txt' is one text, not a list" in refused(
        photos, '--model', 'no_names.py', checkpoint=detector
    )
    assert 'no_data.py has no pipeline for test images' in refused(photos, '--model', 'no_data.py', checkpoint=detector)


def test_a_folder_to_write_into_is_tried_first(refused, photos):
    Path('file').write_text('')
    assert '--out: file cannot be written' in refused(photos, '--out', 'file', checkpoint='nothing.pth')
    assert 'which the drawn image would replace' in refused('photos/a.png', '--out', photos / '..' / 'photos')
    write_video(Path('film.mp4'))
    assert 'which the drawn video would replace' in refused('film.mp4', '--out', '.')


def test_large_images_need_a_word(refused, photos, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)  # restored after the test
    image = [photos / 'a.png', '--max-pixels', '1000']
    assert '1 of 1 images could not be read' in refused(*image, status=1)


def test_a_run_can_be_stopped(photos, trained, monkeypatch, capsys):
    from xvit_det.inference import Predictor

    prepare, calls = Predictor.prepare, []

    def stop(self: Predictor, image: Path) -> dict:
        calls.append(image)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return prepare(self, image)

    monkeypatch.setattr(Predictor, 'prepare', stop)
    predict([str(photos), '--checkpoint', trained('vin_cifar10')])
    assert 'Stopped.' in capsys.readouterr().err and len(results()['images']) == 1
