"""``xvit-det check-data`` end to end, and what the other commands refuse to train with."""

import json
from pathlib import Path

import pytest
from PIL import Image

from xvit_det.cli.check_data import main as check_data
from xvit_det.cli.train import main as train


@pytest.fixture
def check(capfd, tmp_path, monkeypatch):
    """``check(*argv)``: exit status, and what is printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COLUMNS', '200')

    def run(*argv: object, main=check_data) -> tuple[int, str]:
        status = 0
        try:
            main([str(word) for word in argv])
        except SystemExit as stop:
            status = stop.code
        output = ''.join(capfd.readouterr())
        assert 'Traceback' not in output
        return status, ' '.join(output.split())

    return run


@pytest.fixture
def edit(coco_folder):
    """``edit(change)``: change the content of the training annotations; returns the file and the images."""
    path = coco_folder / 'annotations' / 'train.json'

    def write(change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path, coco_folder / 'train'

    return write


def damage(content):
    content['annotations'][0]['bbox'] = [1, 1, float('nan'), 4]
    content['annotations'][1]['category_id'] = 9
    content['annotations'][2]['id'] = content['annotations'][3]['id']
    content['annotations'][4]['bbox'][2] = 0
    del content['annotations'][5]['area']
    content['images'][3]['width'], content['images'][3]['height'] = 48, 64
    content['categories'].append(dict(id=3, name='[red]ring'))


def test_a_sound_file(check, edit):
    status, output = check(*edit(lambda content: None), '--out', 'drawn/classes.png')
    assert status == 0 and '4 images, 8 annotations, 2 categories' in output
    assert '│ square │ 4 │ 4 │ 4 │ 0 │ 0 │ 0 │' in output and 'Nothing is wrong' in output
    assert Image.open('drawn/classes.png').width > 500


def test_faults_are_counted_and_repaired(check, edit):
    path, images = edit(damage)
    (images / '0.png').write_bytes(b'')
    (images / '1.png').write_bytes((images / '1.png').read_bytes()[:400])
    status, output = check(path, images)
    assert status == 1 and 'Training or evaluation would break' in output
    for part in (
        *('0 bytes', 'cannot be read', 'another size than annotated', 'four finite numbers', 'no category has'),
        *("another's", 'mmdet leaves out', 'categories without annotations', '[red]ring'),
    ):
        assert part in output
    status, output = check(path, images, '--no-images')
    assert status == 1 and '0 bytes' in output and 'another size' not in output

    status, output = check(path, images, '--fix', 'fixed.json')
    assert status == 0 and 'removed: image 3' in output and 'completed: annotation 6' in output
    fixed = json.loads(Path('fixed.json').read_text())
    assert [image['id'] for image in fixed['images']] == [2]  # 0 and 1 are damaged, 3 is turned
    assert check('fixed.json', images)[0] == 0
    assert 'is the file that is checked' in check(path, images, '--fix', path)[1]


def test_sizes_are_read_from_the_files(check, edit):
    def change(content):
        del content['images'][0]['width'], content['images'][1]['height'], content['images'][2]['height']
        content['images'][2]['width'] = 60

    path, images = edit(change)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(images / '0.png').save(images / '0.png', exif=exif)  # is loaded as 48x64
    assert 'without a usable width or height' in check(path, images)[1]
    status, output = check(path, images, '--fix', 'fixed.json')
    assert "removed: image 0 (file_name '0.png'); it is loaded as 48x64 but annotated as ?x48" in output
    assert "completed: image 1 (file_name '1.png'); width 64, height 48 [images without" in output
    assert "removed: image 2 (file_name '2.png'); it is loaded as 64x48 but annotated as 60x?" in output
    assert status == 0 and 'Written: fixed.json with 2 images and 4 annotations' in output
    assert check('fixed.json', images)[0] == 0
    assert 'its file is not looked at' in check(path, images, '--no-images', '--fix', 'fixed.json')[1]


def name_by_url(content):
    for image in content['images']:
        image['coco_url'] = f'http://images.cocodataset.org/train/{image.pop("file_name")}'


def test_files_of_lvis_are_found_by_their_address(check, edit, write_config, coco_folder):
    path, images = edit(name_by_url)
    assert check(path, coco_folder)[0] == 0
    more = "one = train_dataloader['dataset']['dataset']\n"
    more += "one.update(type='LVISV1Dataset', metainfo=metainfo, data_prefix=dict(img=''))\n"
    config = write_config(coco_folder, more)
    assert check(config)[0] == 0
    edit(lambda content: [image.update(file_name='wrong.png') for image in content['images']])
    assert check(config)[0] == 0  # mmdet's dataset of LVIS looks at the address alone
    (images / '3.png').unlink()
    status, output = check(config)
    assert status == 1 and 'images that do not exist on disk' in output and 'image 3' in output
    status, output = check(config, main=train)
    assert status == 2 and 'that do not exist on disk (1 of the 4 images' in output


def test_nothing_could_be_left(check, edit):
    path, images = edit(lambda content: content.update(annotations=[]))
    status, output = check(path, images, '--fix', 'fixed.json')
    assert status == 2 and 'cannot be repaired by leaving out entries: no object' in output


def test_a_config(check, edit, write_config, coco_folder):
    config = write_config(coco_folder)
    status, output = check(config, '--out', 'classes.svg')
    assert status == 0 and 'fit together: 4 train images, 2 val images, 2 test images' in output
    assert f'val, test: {coco_folder}/annotations/val.json' in output
    edit(damage)
    status, output = check(config)
    assert status == 1 and 'four finite numbers' in output
    assert '--fix takes an annotation file' in check(config, '--fix', 'fixed.json')[1]
    assert 'a folder of images follows' in check(config, 'images')[1]


def test_a_config_for_other_data(check, tiny_imagenet_folder):
    status, output = check('fnet_tinyimagenet', '--data-root', tiny_imagenet_folder)
    assert status == 0 and 'fit together' in output


def test_wrong_arguments(check, coco_folder):
    path = coco_folder / 'annotations' / 'train.json'
    assert check(path)[0] == 2 and 'give the folder of the images' in check(path)[1]
    assert 'not a folder of images' in check(path, 'nowhere')[1]
    assert 'No such file' in check('nowhere.json', coco_folder)[1]
    assert check(path, '--no-images')[0] == 0
    assert 'ends in none of .png' in check(path, '--no-images', '--out', 'drawn.xyz')[1]
    assert 'is a folder' in check(path, '--no-images', '--fix', coco_folder)[1]


def take(key):
    return lambda content: [annotation.pop(key) for annotation in content['annotations']]


REFUSED = {
    'annotations without a usable': take('bbox'),
    'area is absent': take('area'),
    'without a segmentation': take('segmentation'),
    'without an id': take('id'),
    'no image has': lambda content: content['annotations'][0].update(image_id=77),
    'categories without a usable id or name': lambda content: content['categories'][0].pop('name'),
    'images without a usable': lambda content: content['images'][0].pop('height'),
    "another image's id": lambda content: content['images'][0].update(id=1),
    "another category's id": lambda content: content['categories'][0].update(id=2),
    'four finite numbers': lambda content: content['annotations'][0].update(bbox=[1, 2, float('nan'), 4]),
    'fewer than 6 or an odd number': lambda content: content['annotations'][0].update(segmentation=[[1, 2, 3, 4]]),
    'whose RLE is invalid': lambda content: content['annotations'][0].update(
        segmentation=dict(size=[48, 64], counts='abc')
    ),
    'another size than annotated': lambda content: content['images'][3].update(width=48, height=64),
    'no object': lambda content: [annotation.update(iscrowd=1) for annotation in content['annotations']],
}


@pytest.mark.parametrize('text', REFUSED)
def test_training_refuses_what_is_wrong(check, edit, write_config, coco_folder, text):
    path, images = edit(REFUSED[text])
    status, output = check(write_config(coco_folder), main=train)
    assert status == 2 and output.startswith(f'error: {path} has ') and text in output
    assert ('check-data' in output) and output.count('error: ') == 1


def test_training_refuses_images_that_are_all_too_small(check, write_config, coco_folder):
    more = "train_dataloader['dataset']['dataset']['filter_cfg'] = dict(min_size=128)\n"
    assert 'no image of at least 128 pixels' in check(write_config(coco_folder, more), main=train)[1]


def test_background_images_beside_others_need_no_objects(edit, write_config, coco_folder):
    from xvit_det.config.data_check import check_data as check_config
    from xvit_det.config.load import load_config

    edit(lambda content: content.update(annotations=[]))
    more = "one = train_dataloader['dataset']['dataset']\nother = {**one, 'ann_file': 'annotations/val.json'}\n"
    more += "other['data_prefix'] = dict(img='val/')\n"
    more += "train_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[one, other])\n"
    assert check_config(load_config(write_config(coco_folder, more)), ('train',)) == dict(train=6)


def test_evaluation_needs_objects_and_iscrowd(check, write_config, coco_folder):
    path = coco_folder / 'annotations' / 'val.json'
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | dict(annotations=[])))
    assert 'val.json has no object' in check(write_config(coco_folder), main=train)[1]
    take('iscrowd')(content)
    path.write_text(json.dumps(content))
    assert 'iscrowd is absent' in check(write_config(coco_folder), main=train)[1]


def test_boxes_alone_need_no_segmentations(edit, write_config, coco_folder):
    from xvit_det.config.data_check import check_data as check_config
    from xvit_det.config.load import load_config

    edit(take('segmentation'))
    more = "pipeline[2]['with_mask'] = False\n"
    cfg = load_config(write_config(coco_folder, more))
    assert check_config(cfg, ('train',)) == dict(train=4)
