"""Files of other projects, converted for the shipped configs: what the models compute is what theirs do."""

import pytest
import timm
import torch
from mmengine.runner import load_checkpoint
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import xvit_det
from xvit_det import InputError
from xvit_det.backbones import load_pretrained
from xvit_det.config.load import load_config
from xvit_det.conversion import convert, grouped
from xvit_det.weights.translate import translate


@torch.no_grad()
def scramble(model: nn.Module) -> nn.Module:
    """Norms, scales and statistics far from neutral; XCiT's scales small, so that 12 blocks do not blow up."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if 'gamma' in name:
            nn.init.normal_(parameter, 0.0, 0.3)
        elif parameter.ndim == 1 and 'norm' in name:
            nn.init.normal_(parameter, 0.0 if name.endswith('bias') else 1.0, 0.2)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Models and files as published ones: ``{name: (model, path)}``."""
    folder = tmp_path_factory.mktemp('files')
    found = {}
    for name in ('xcit_nano_12_p16_224', 'deit_tiny_patch16_224', 'xcit_tiny_12_p16_224'):
        model = scramble(timm.create_model(name))
        torch.save(dict(model=model.state_dict()), folder / f'{name}.pth')
        found[name] = (model, str(folder / f'{name}.pth'))
    return found


def logits(model: nn.Module, x: Tensor) -> Tensor:
    return model(x) if not hasattr(model, 'backbone') else model.head(model.backbone(x))


@pytest.mark.parametrize(
    ('name', 'config'),
    [('xcit_nano_12_p16_224', 'xcit_nano_12_p16_in1k'), ('deit_tiny_patch16_224', 'deit_tiny_p16_in1k')],
)
@torch.no_grad()
def test_logits_are_theirs(files, name, config):
    theirs, path = files[name]
    result = convert(path)
    assert result.config == config and result.size == len(result.weights) and not any(result.notes.values())
    x = torch.randn(2, 3, 224, 224)
    expected = logits(theirs, x)
    ours = xvit_det.create_model(config)
    assert (logits(ours, x) - expected).abs().max() > 0.1 * expected.abs().max()
    ours.load_state_dict(result.weights)
    assert (logits(ours, x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    direct = xvit_det.create_model(config, pretrained=path)  # the same conversion on the way
    assert torch.equal(logits(direct, x), logits(ours, x))


def test_from_a_classifier_to_a_detector(files):
    theirs, path = files['xcit_tiny_12_p16_224']
    result = convert(path, 'mask_rcnn_xcit_tiny_12_p16_3x')
    missing = {part.split('.')[0] + '.' + part.split('.')[1] for part, _ in grouped(result.notes['missing'])}
    assert {'backbone.pyramid', 'neck.lateral_convs', 'rpn_head.rpn_conv'} <= missing
    assert not any(name.startswith('backbone.') and '.pyramid.' not in name for name in result.notes['missing'])
    left = {part.split('.')[1] for part, _ in grouped(result.notes['left over'])}
    assert left == {'cls_token', 'class_blocks', 'norm', 'fc'}
    assert torch.equal(result.weights['backbone.blocks.11.norm2.bias'], theirs.blocks[11].norm3.bias)


def mmdet_2_file(folder, num_classes: int = 80) -> tuple[nn.Module, str]:
    """A detector of ours, saved with the names that XCiT's authors gave its backbone."""
    torch.manual_seed(0)
    parts = dict(
        roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),
    )
    model = scramble(xvit_det.create_model('mask_rcnn_xcit_tiny_12_p16_3x', **parts))
    # Back by the names of timm's model, which the test of XCiT's names compares with the authors'.
    with torch.device('meta'):
        theirs = timm.create_model('xcit_tiny_12_p16_224').state_dict()
    marked = {
        name: torch.full_like(w, i, device='cpu', dtype=torch.float64) for i, (name, w) in enumerate(theirs.items())
    }
    back = {n: list(marked)[int(w.flatten()[0])] for n, w in translate(marked)[0].items() if not n.endswith('.beta')}
    back |= {f'backbone.pyramid.levels.{i}.{j}': f'fpn{i + 1}.{j}' for i, j in ((0, 0), (0, 1), (0, 3), (1, 0))}
    weights = {}
    for name, weight in model.state_dict().items():
        place, _, leaf = name.rpartition('.')
        if name in back:
            weights['backbone.' + back[name].replace('pos_embed.', 'pos_embeder.')] = weight
        elif place in back:
            weights[f'backbone.{back[place]}.{leaf}'] = weight
        elif not name.endswith('.beta'):
            weights[name] = weight
    path = folder / 'maskrcnn_xcit_tiny_12_p16.pth'
    meta = dict(
        mmdet_version='2.11.0', epoch=36, iter=263880, CLASSES=('person',) * num_classes, config='model = dict()'
    )
    torch.save(dict(meta=meta, state_dict=weights, optimizer=dict(state={}, param_groups=[])), path)
    return model, str(path)


@torch.no_grad()
def test_a_detector_of_mmdet_2(tmp_path):
    theirs, path = mmdet_2_file(tmp_path)
    result = convert(path)
    assert result.config == 'mask_rcnn_xcit_tiny_12_p16_3x' and not any(result.notes.values())
    x = torch.randn(1, 3, 96, 128)

    def outputs(model):
        return [*theirs.backbone(x), *(out for level in model.rpn_head(model.neck(model.backbone(x))) for out in level)]

    expected = outputs(theirs)
    converted = xvit_det.create_model(result.config)
    converted.load_state_dict(result.weights)
    plain = xvit_det.create_model(result.config)
    load_checkpoint(plain, path)  # as mmdet's own tools do, which know nothing of the conversion
    for model in (converted, plain):
        for out, wanted in zip(outputs(model), expected, strict=True):
            assert (out - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_a_detector_for_other_classes(tmp_path):
    _, path = mmdet_2_file(tmp_path, num_classes=3)
    result = convert(path)
    new = {'roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.fc_reg', 'roi_head.mask_head.conv_logits'}
    assert {name.rpartition('.')[0] for name in result.notes['missing']} == new
    assert result.notes['missing']['roi_head.bbox_head.fc_cls.bias'] == '(4,) in the file, (81,) in the model'
    assert set(result.notes['left over']) == set(result.notes['missing'])


@pytest.mark.parametrize('mixer', ['nystrom', 'performer', 'xnorm', 'fourier'])
def test_into_another_mixer(files, mixer):
    theirs, path = files['deit_tiny_patch16_224']
    result = convert(path, mixer=mixer)
    assert len(result.weights) == result.size and not result.notes['missing']
    cfg = load_config(result.config, options=result.options)  # as the commands that the user is told
    model = xvit_det.create_model(result.config, backbone=dict(mixer=cfg.model.backbone.mixer))
    model.load_state_dict(result.weights)
    anew = {part.rpartition('mixer.')[2] for part, _ in grouped(result.notes['anew'])}
    left = {part.rpartition('mixer.')[2] for part, _ in grouped(result.notes['left over'])}
    assert (anew, left) == {
        'nystrom': ({'conv'}, set()),
        'performer': ({'features'}, set()),
        'xnorm': ({'gamma_q', 'gamma_kv'}, set()),
        'fourier': (set(), {'qkv', 'proj'}),
    }[mixer]
    if mixer == 'performer':
        q = theirs.blocks[3].attn.qkv.weight[192:384]
        assert torch.equal(result.weights['backbone.blocks.3.mixer.k.weight'], q)
    if mixer == 'nystrom':
        assert not result.weights['backbone.blocks.3.mixer.conv.weight'].any()


@torch.no_grad()
def test_nystrom_from_a_vision_transformer_is_close_to_it(files):
    """With as many landmarks as tokens it is softmax attention, so all weights must be in their places."""
    theirs, path = files['deit_tiny_patch16_224']
    result = convert(path, mixer='nystrom')
    mixer = dict(type='nystrom', landmarks=197, pinv_iterations=12)
    model = xvit_det.create_model(result.config, backbone=dict(mixer=mixer))
    model.load_state_dict(result.weights)
    x = torch.randn(1, 3, 224, 224)
    expected = logits(theirs, x)
    assert (logits(model, x) - expected).abs().max() < 0.02 * expected.abs().max()


def test_an_x_vit_from_an_xcit(tmp_path):
    """All but the attention, which is narrower in X-ViT."""
    with torch.random.fork_rng():
        theirs = timm.create_model('xcit_tiny_24_p16_224')
    torch.save(theirs.state_dict(), tmp_path / 'w.pth')
    result = convert(tmp_path / 'w.pth', 'mask_rcnn_xvit_t_3x')
    assert {part for part, _ in grouped(result.notes['anew'])} == {
        f'backbone.blocks.#.attn.{name}' for name in ('qkv', 'proj', 'gamma_q', 'gamma_kv')
    }
    missing = [name for name in result.notes['missing'] if name.startswith('backbone.')]
    assert missing and all(name.startswith('backbone.pyramid.') for name in missing)
    assert torch.equal(result.weights['backbone.blocks.23.lpi.conv1.weight'], theirs.blocks[23].local_mp.conv1.weight)


def test_weights_of_ours_into_another_mixer(tmp_path):
    model = xvit_det.create_model('xvit_t_in1k')
    torch.save(model.state_dict(), tmp_path / 'w.pth')
    result = convert(tmp_path / 'w.pth', 'xvit_t_in1k', mixer='xca')
    q, k, v = model.backbone.blocks[7].attn.qkv.weight.chunk(3)
    assert torch.equal(result.weights['backbone.blocks.7.attn.qkv.weight'], torch.cat((v, k, q)))
    assert {part for part, _ in grouped(result.notes['anew'])} == {'backbone.blocks.#.attn.temperature'}


def test_a_config_with_another_mixer(files):
    result = convert(files['deit_tiny_patch16_224'][1], 'deit_tiny_p16_in1k', mixer='softmax')
    assert not any(result.notes.values())  # the same mixer: nothing to change


def test_weights_of_ours(tmp_path):
    model = xvit_det.create_model('vin_cifar10')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'vin.pth')
    result = convert(tmp_path / 'vin.pth', 'vin_cifar10')
    assert result.source is None and len(result.weights) == result.size
    assert 'licence' not in result.header(tmp_path / 'vin.pth')
    torch.save({f'module.{n}': w for n, w in model.backbone.state_dict().items()}, tmp_path / 'backbone.pth')
    backbone = convert(tmp_path / 'backbone.pth', 'vin_cifar10')
    assert set(backbone.notes['missing']) == {'head.fc.weight', 'head.fc.bias'} and not backbone.notes['left over']
    with pytest.raises(InputError, match='none of the families XCiT, ViT.* give its config with --config'):
        convert(tmp_path / 'vin.pth')


def test_header(files):
    path = files['xcit_nano_12_p16_224'][1]
    header = convert(path).header(path)
    assert header['config'] == 'xcit_nano_12_p16_in1k' and header['source'] == 'xcit_nano_12_p16_224.pth'
    assert header['licence'].startswith('Apache-2.0') and len(header['sha256']) == 64
    assert header['xvit_det'] == xvit_det.__version__


@pytest.mark.parametrize(
    ('config', 'mixer', 'message'),
    [
        ('xcit_tiny_12_p16_in1k', None, r'xcit_tiny_12_p16_in1k: backbone\.\S+ has the shape'),
        ('mask_rcnn_xcit_small_12_p16_3x', None, 'is not of the model in'),
        ('xcit_tiny_24_p16_in1k', None, 'with 12 blocks, and this XViT has 24'),
        ('xcit_nano_12_p8_in1k', None, r'this XViT has no place for stem\.'),
        ('deit_tiny_p16_in1k', None, "mixer 'xca' is not one of|this ViX has no place for"),
        ('xvit_t_in1k', None, 'with 12 blocks, and this XViT has 24'),
        (None, 'softmix', "mixer 'softmix' is not one of softmax"),
        ('xcit_nano_12_p17_in1k', None, "no config 'xcit_nano_12_p17_in1k'; did you mean xcit_nano_12_p1"),
    ],
)
def test_the_wrong_config_is_refused(files, config, mixer, message):
    with pytest.raises(InputError, match=message):
        convert(files['xcit_nano_12_p16_224'][1], config, mixer)


def test_a_size_without_a_config(tmp_path):
    weights = timm.models.VisionTransformer(embed_dim=32, depth=1, num_heads=2).state_dict()
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(
        InputError, match='is ViT 1 blocks of width 32, patch 16, classifier, for which there is no config'
    ):
        convert(tmp_path / 'w.pth')


def test_a_table_of_another_size_is_resampled(tmp_path, files):
    theirs, path = files['deit_tiny_patch16_224']
    weights = theirs.state_dict() | dict(pos_embed=torch.randn(1, 577, 192))  # of 384 pixels
    torch.save(weights, tmp_path / 'w.pth')
    result = convert(tmp_path / 'w.pth')
    assert result.notes['resampled'] == {'backbone.entries.0.pos_embed.table': '(1, 577, 192) to (1, 197, 192)'}


def test_a_deeper_model_of_ours_is_another(tmp_path):
    torch.save(xvit_det.create_model('xvit_s_in1k').state_dict(), tmp_path / 'w.pth')
    with pytest.raises(InputError, match=r'is not of the model in xvit_m_in1k: it has no backbone\.blocks\.12'):
        convert(tmp_path / 'w.pth', 'xvit_m_in1k')


def test_weights_that_are_not_numbers(tmp_path, files):
    weights = files['deit_tiny_patch16_224'][0].state_dict() | {'norm.bias': torch.full((192,), torch.nan)}
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(InputError, match=r'192 of the 192 values of norm\.bias are NaN'):
        convert(tmp_path / 'w.pth')


def test_configs_without_a_backbone(tmp_path, files):
    path = files['deit_tiny_patch16_224'][1]
    (tmp_path / 'part.py').write_text('optim_wrapper = dict()\n')
    with pytest.raises(InputError, match='describes no model'):
        convert(path, str(tmp_path / 'part.py'))
    stock = "_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'\n"
    (tmp_path / 'stock.py').write_text(stock)
    with pytest.raises(InputError, match=r'stock\.py has no backbone of xvit_det'):
        convert(path, str(tmp_path / 'stock.py'))


def test_fused_weights_are_refused(tmp_path):
    model = xvit_det.create_model('xvit_t_in1k')
    model.backbone.fuse()
    torch.save(model.state_dict(), tmp_path / 'fused.pth')
    with pytest.raises(InputError, match='those of a fused XViT'):
        convert(tmp_path / 'fused.pth', 'xvit_t_in1k')


def test_into_a_fused_model(files):
    model = xvit_det.create_model('xcit_nano_12_p16_in1k')
    model.backbone.fuse()
    theirs, path = files['xcit_nano_12_p16_224']
    with pytest.raises(InputError, match='fused and the weights are not'):
        model.load_state_dict(translate(theirs.state_dict())[0])
    with pytest.raises(InputError, match='fused and the weights are not'):
        load_pretrained(model.backbone, path)
