"""The table of results."""

from xvit_det.cli.results import print_results


def cells(text: str, first: str) -> list[str]:
    row = next(line for line in text.splitlines() if line.startswith(f'│ {first} '))
    return [cell.strip() for cell in row.strip('│').split('│')][1:]


def test_coco_in_percent_beside_the_paper(capsys):
    names = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
    box = dict(zip((f'coco/bbox_{name}' for name in names), (0.412, 0.65, 0.443, 0.2, 0.45, -1.0), strict=True))
    print_results({**box, 'coco/segm_mAP': 0.3}, dict(bbox_mAP=44.6, source='Table 2'))
    text = capsys.readouterr().out
    assert cells(text, 'box') == ['41.2', '65.0', '44.3', '20.0', '45.0', '–', '44.6']
    assert cells(text, 'mask') == ['30.0', '–', '–', '–', '–', '–', '–']  # not measured, not in the paper
    assert 'paper: Table 2' in text


def test_classification_with_and_without_a_paper(capsys):
    print_results({'accuracy/top1': 81.25, 'accuracy/top5': 95.0}, dict(top1=82.0))
    assert cells(capsys.readouterr().out, 'top1') == ['81.2', '82.0']
    print_results({'accuracy/top1': 81.25})
    assert cells(capsys.readouterr().out, 'top1') == ['81.2']


def test_published_figures_are_called_so(capsys):
    print_results({'coco/bbox_mAP': 0.452}, dict(bbox_mAP=45.3, source='theirs'), 'published')
    text = capsys.readouterr().out
    assert cells(text, 'box')[-1] == '45.3' and 'published AP' in text and 'published: theirs' in text
    print_results({'mIoU': 43.8}, dict(mIoU=43.9), 'published')
    assert cells(capsys.readouterr().out, 'mIoU') == ['43.8', '43.9']


def test_nothing_found(capsys):
    print_results({}, dict(bbox_mAP=44.6))
    assert 'found nothing' in capsys.readouterr().out
