"""``xvit-det web``: the page as a browser shows it, what it refuses to read, and a sentence for every mistake."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import xvit_det
from xvit_det.cli import web
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes
from xvit_det.hub import find_config
from xvit_det.inference import Prediction

REPO = Path(__file__).resolve().parents[2]
CHROMIUM = Path('/usr/bin/chromium')
MODELS = ('mask_rcnn_xvit_context', 'vin_cifar10')

pytestmark = pytest.mark.heavy
needs_gradio = pytest.mark.skipif(not importlib.util.find_spec('gradio'), reason='gradio is not installed')
needs_browser = pytest.mark.skipif(
    not (CHROMIUM.exists() and importlib.util.find_spec('playwright')),
    reason=f'a browser test needs the package playwright and {CHROMIUM}',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Folder with untrained models, drawn scenes as examples, and files to upload."""
    folder = tmp_path_factory.mktemp('web')
    for name in MODELS:
        torch.manual_seed(0)
        model = xvit_det.create_model(name)
        (folder / name).mkdir()
        model.cfg.dump(folder / name / find_config(name).name)
        torch.save(dict(state_dict=model.state_dict(), meta={}), folder / name / 'checkpoint.pth')
    ensure_shapes(folder / 'scenes', ContextSpec(num_train=1, num_val=2))
    (folder / 'scenes' / 'val2017' / 'broken.png').write_text('no image')
    (folder / 'broken.jpg').write_text('no image')
    Image.new('L', (2000, 1000)).save(folder / 'large.png')
    (folder / 'secret.txt').write_text('secret')
    return folder


def checkpoint(folder: Path, name: str = MODELS[0]) -> str:
    return str(folder / name / 'checkpoint.pth')


@pytest.fixture(scope='module')
def address(folder) -> Iterator[str]:
    """Where the command, in a process of its own, serves the page with both models."""
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join([str(REPO), os.environ.get('PYTHONPATH', '')]))
    # A proxy that does not exist: the page needs no network.
    environment |= dict(TMPDIR=str(folder), HTTP_PROXY='http://127.0.0.1:9', http_proxy='http://127.0.0.1:9')
    limits = ['--max-size-mb', '1', '--max-megapixels', '1']
    words = [*(checkpoint(folder, name) for name in MODELS), '--examples', str(folder / 'scenes' / 'val2017'), *limits]
    command = [sys.executable, '-m', 'xvit_det', 'web', *words, '--port', '0']
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output = ''
    while 'Open ' not in output and (line := process.stdout.readline()):
        output += line
    found = re.search(r'Open (http://127\.0\.0\.1:\d+) ', output)
    assert found and 'skipped: ' in output and 'Anybody' not in output, output
    yield found[1]
    process.send_signal(signal.SIGINT)
    assert 'KeyboardInterrupt' not in process.communicate(timeout=20)[0] and process.returncode == 0
    assert not [*folder.glob('xvit-det-web-*')]  # uploads and results are removed


@pytest.fixture
def page(address):
    """The page in a browser; at the end, everything that it asked for came from the command."""
    from playwright.sync_api import sync_playwright

    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=['--no-sandbox'])
        page = browser.new_page(accept_downloads=True)
        page.on('request', lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector('button.thumbnail-item')
        yield page
        browser.close()
    assert requests and {url for url in requests if not url.startswith((f'{address}/', 'data:', 'blob:'))} == set()


def set_threshold(page, value: float) -> None:
    box = page.get_by_label('number input for Score threshold')
    box.fill(str(value))
    box.press('Enter')


@needs_gradio
@needs_browser
def test_an_uploaded_image_is_predicted_filtered_and_downloaded(page, folder, tmp_path):
    from playwright.sync_api import expect

    image = folder / 'scenes' / 'val2017' / f'{1:012}.png'
    model = xvit_det.load(checkpoint(folder), device='cpu')
    scores = sorted((float(score) for score in model.predict(image, score=0).scores), reverse=True)
    few, more = (round((scores[number - 1] + scores[number]) / 2, 4) for number in (2, 12))

    page.set_input_files('input[type=file]', image)
    buttons = page.get_by_role('button', name='Download as JSON')
    for button in (buttons.nth(0), buttons.nth(1)):
        expect(button).to_be_enabled(timeout=30_000)
    expect(page.locator('.confidence-set')).to_have_count(5)  # the classifier's best
    for threshold in (more, few):
        set_threshold(page, threshold)
        expected = model.predict(image, score=threshold)
        names = [f'{name} {score:.2f}' for name, score in zip(expected.names, expected.scores, strict=True)]
        expect(page.locator('button.legend-item')).to_have_text(names)
        with page.expect_download() as download:
            buttons.nth(0).click()
        content = json.loads(Path(download.value.path()).read_text())
        rows = [dict(id=i, iscrowd=0) | row for i, row in enumerate(expected.to_coco(1), start=1)]
        assert content['annotations'] == rows and len(rows) == len(names) > 0
        assert content['images'] == [dict(id=1, file_name=image.name, width=384, height=128)]
    with page.expect_download() as download:
        buttons.nth(1).click()
    content = json.loads(Path(download.value.path()).read_text())
    best = xvit_det.load(checkpoint(folder, MODELS[1]), device='cpu').predict(image)
    assert [found['name'] for found in content['images'][0]['classes']] == best.names


@needs_gradio
@needs_browser
def test_files_that_cannot_be_read_get_a_message(page, folder):
    from playwright.sync_api import expect

    page.set_input_files('input[type=file]', folder / 'broken.jpg')
    expect(page.get_by_text('broken.jpg cannot be read as an image: it is of no image format')).to_be_visible()
    page.set_input_files('input[type=file]', folder / 'large.png')
    expect(page.get_by_text('large.png has more than 1 megapixels')).to_be_visible()
    page.set_input_files('input[type=file]', folder / 'secret.txt')
    expect(page.get_by_text('Invalid file type')).to_be_visible()
    assert 'Traceback' not in page.content() and str(folder) not in page.locator('.toast-body').first.inner_text()


@needs_gradio
@needs_browser
def test_an_example_and_the_evidence_for_what_is_found_in_it(page):
    from playwright.sync_api import expect

    examples = page.locator('button.thumbnail-item')
    expect(examples).to_have_count(2)  # without the broken one
    set_threshold(page, 0.01)
    examples.nth(1).click()
    expect(page.locator('button.legend-item').first).to_be_visible(timeout=30_000)
    page.locator('.confidence-set').first.click()
    page.locator('button.legend-item').first.click()
    expect(page.locator('img[src*="gradcam.png"]')).to_have_count(2, timeout=30_000)
    for picture in page.locator('img[src*="gradcam.png"]').all():
        assert picture.evaluate('picture => picture.decode().then(() => picture.naturalWidth)') > 300


def status(request: Request | str) -> int:
    try:
        with urlopen(request) as reply:
            return reply.status
    except HTTPError as error:
        return error.code


def post(address: str, path: str, body: bytes, kind: str) -> Request:
    return Request(f'{address}/gradio_api/{path}', body, {'Content-Type': kind}, method='POST')


@needs_gradio
def test_other_files_cannot_be_read(address, folder):
    secret = folder / 'secret.txt'
    for path in ('/etc/passwd', secret, '../secret.txt', 'secret.txt', '%2e%2e/%2e%2e/etc/passwd', checkpoint(folder)):
        assert status(f'{address}/gradio_api/file={path}') in (403, 404), path
    (served,) = folder.glob('xvit-det-web-*')
    (example, *_) = served.rglob('*.webp')
    assert status(f'{address}/gradio_api/file={example}') == 200
    assert status(f'{address}/gradio_api/file={served}/../secret.txt') in (403, 404)


@needs_gradio
@pytest.mark.parametrize('name', ['/etc/passwd', 'scenes/val2017/000000000001.png'])
def test_a_request_cannot_name_a_file_that_was_not_uploaded(name, address, folder):
    path = folder / name
    file = dict(path=str(path), meta=dict(_type='gradio.FileData'))
    event = dict(data=[file, 0.3], fn_index=0, session_hash='mine')
    assert status(post(address, 'queue/join', json.dumps(event).encode(), 'application/json')) == 200
    with urlopen(f'{address}/gradio_api/queue/data?session_hash=mine') as reply:
        events = [json.loads(line.removeprefix(b'data: ')) for line in reply if line.startswith(b'data: ')]
    (done,) = (event for event in events if event['msg'] == 'process_completed')
    assert not done['success'] and 'Traceback' not in json.dumps(events)


@needs_gradio
def test_large_files_are_not_taken(address):
    for megabytes, expected in ((0.5, 200), (2, 413)):
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = head + bytes(int(megabytes * 2**20)) + b'\r\n--b--\r\n'
        assert status(post(address, 'upload', body, 'multipart/form-data; boundary=b')) == expected


@needs_gradio
def test_objects_without_masks_and_regions_of_a_label_map(tmp_path, monkeypatch):
    from xvit_det.cli.web_page import _regions, _texts, gr

    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    pixels = np.zeros((100, 200, 3), np.uint8)
    common = dict(labels=np.array([1, 0]), classes=('crane', 'crane'), size=(10, 20))
    boxes = np.array([[1.0, 2.0, 3.0, 4.0], [-1.0, 5.0, 30.0, 9.0]])
    objects = Prediction(scores=np.array([0.9, 0.5]), boxes=boxes, **common)
    assert _regions(objects, pixels.shape) == [(10, 20, 30, 40), (0, 50, 200, 90)]
    assert _texts(objects) == ['crane 0.90', 'crane 0.50']
    drawn = gr.AnnotatedImage().postprocess((pixels, list(zip(_regions(objects, pixels.shape), 'ab', strict=True))))
    opaque = np.asarray(Image.open(drawn.annotations[0].image.path))[..., 3]
    assert opaque[20:40, 10:30].all() and opaque.astype(bool).sum() == 400
    assert _texts(Prediction(scores=np.array([0.9, 0.1]), **common)) == ['crane (1)', 'crane (0)']

    label_map = np.repeat([[0], [1]], (2, 8), axis=0).repeat(20, axis=1)  # (10, 20): two rows of class 0
    regions = Prediction(scores=np.array([0.8, 0.2]), label_map=label_map, **common)
    assert _texts(regions) == ['crane 80.0 %', 'crane 20.0 %']
    lower, upper = _regions(regions, pixels.shape)
    assert (upper[:20] > 0).all() and not upper[20:].any() and ((upper > 0) ^ (lower > 0)).all()
    assert upper[10, 100] == 0.5 and upper[19, 100] == 1  # the outline is opaque


@needs_gradio
def test_examples_are_the_images_of_the_test_data(tmp_path, capsys):
    from xvit_det.cli.web_page import find_examples

    def config(**dataset: object) -> Config:
        return Config(dict(test_dataloader=dict(dataset=dict(data_root=str(tmp_path), **dataset))))

    assert find_examples(None, config()) == []  # nothing is there
    for name in ('val2017/a.png', 'photos/b.png'):
        (tmp_path / name).parent.mkdir()
        Image.new('L', (400, 200)).save(tmp_path / name)
    ((path, small),) = find_examples(None, config())  # drawn scenes
    assert path.endswith('val2017/a.png') and small.shape == (100, 200, 3)
    assert find_examples(None, config(data_prefix=dict(img='photos')))[0][0].endswith('b.png')
    assert find_examples(None, config(data_prefix=dict(img_path='photos/')))[0][0].endswith('b.png')


@pytest.fixture
def refused(capfd, monkeypatch):
    """``refused(*argv)``: the sentence with which the command ends."""
    for name in ('GRADIO_TEMP_DIR', 'GRADIO_EXAMPLES_CACHE', 'GRADIO_ANALYTICS_ENABLED'):
        monkeypatch.setenv(name, '')  # restored after the test, as is the limit
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)

    def run(*argv: str) -> str:
        with pytest.raises(SystemExit) as done:
            web.main([*argv])
        out, err = capfd.readouterr()
        assert done.value.code == 2 and err.startswith('error: ') and err.count('\n') == 1 and not out
        return err

    return run


@needs_gradio
def test_mistakes_get_a_sentence(refused, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    free = ('--port', '0')
    assert 'work_dirs/demo/checkpoint.pth does not exist' in refused(*free)
    assert 'one or two checkpoints, not 3' in refused('a', 'b', 'c', *free)
    assert '--max-megapixels must be at least 1, not 0' in refused('--max-megapixels', '0')
    assert '2 configs for 1 checkpoints' in refused('a.pth', '--config', 'b', '--config', 'c', *free)
    (tmp_path / 'alone.pth').touch()
    assert 'name one with --config' in refused('alone.pth', *free)
    assert 'is_no_config' in refused('alone.pth', '--model', 'is_no_config', *free)
    assert 'no_folder' in refused(checkpoint(folder), '--examples', 'no_folder', *free)
    assert 'port 99999' in refused('--port', '99999')
    assert 'no.such.host' in refused('--host', 'no.such.host', *free)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f'port {port}: Address already in use; choose' in refused('--port', port)


def test_without_gradio_the_sentence_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert "pip install 'xvit_det[web]'" in refused('--port', '0')


def test_a_page_for_others_says_so(capfd):
    with web._listen('0.0.0.0', 0) as listener:
        web._announce(listener)
    with web._listen('localhost', 0) as local:
        web._announce(local)
    out, err = capfd.readouterr()
    assert err.count('Anybody') == 1 and 'http://127.0.0.1:' in out
