"""Parts that several backbones share."""

from xvit_det.layers.affine import Affine
from xvit_det.layers.block import MixerBlock, PostNormBlock
from xvit_det.layers.channel_norm import ChannelNorm
from xvit_det.layers.class_attention import ClassAttentionBlock
from xvit_det.layers.drop_path import DropPath
from xvit_det.layers.embedding import Embedding
from xvit_det.layers.feedforward import FeedForward
from xvit_det.layers.lpi import LocalPatchInteraction
from xvit_det.layers.norm import build_norm
from xvit_det.layers.padding import ImageExtents
from xvit_det.layers.position import FourierPosition, LearnedPosition
from xvit_det.layers.pyramid import FeaturePyramid
from xvit_det.layers.recomputation import checkpoint
from xvit_det.layers.stem import (
    STEMS,
    ConvStem,
    ConvTokenizer,
    OverlapPatchEmbed,
    PatchEmbed,
    PatchNormEmbed,
    PlainConvStem,
    build_stem,
)
from xvit_det.layers.xcit_class_block import XCiTClassBlock

__all__ = [
    'STEMS',
    'Affine',
    'ChannelNorm',
    'ClassAttentionBlock',
    'ConvStem',
    'ConvTokenizer',
    'DropPath',
    'Embedding',
    'FeaturePyramid',
    'FeedForward',
    'FourierPosition',
    'ImageExtents',
    'LearnedPosition',
    'LocalPatchInteraction',
    'MixerBlock',
    'OverlapPatchEmbed',
    'PatchEmbed',
    'PatchNormEmbed',
    'PlainConvStem',
    'PostNormBlock',
    'XCiTClassBlock',
    'build_norm',
    'build_stem',
    'checkpoint',
]
