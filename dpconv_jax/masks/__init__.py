"""Irregular holes: strokes, boxes, blobs, people's drawings and files; ratio buckets, clothing coverage, fixed masks.

A mask is a uint8 array (H, W, 1) with 1 = valid and 0 = hole; its hole ratio is the share of hole pixels.
"""

from dpconv_jax.masks.drawing import MIXED, PRESETS, PROCEDURAL, Files, draw, eval_mask
from dpconv_jax.masks.files import MaskFiles, read
from dpconv_jax.masks.manifest import Row, manifest_text, read_manifest, row, verify, write_manifest
from dpconv_jax.masks.quickdraw import QuickDraw
from dpconv_jax.masks.ratio import BUCKETS, DRAWN, bucket_of, coverage, hole_ratio
from dpconv_jax.masks.sets import SETS, open_files

__all__ = [
    "BUCKETS",
    "DRAWN",
    "MIXED",
    "PRESETS",
    "PROCEDURAL",
    "SETS",
    "Files",
    "MaskFiles",
    "QuickDraw",
    "Row",
    "bucket_of",
    "coverage",
    "draw",
    "eval_mask",
    "hole_ratio",
    "manifest_text",
    "open_files",
    "read",
    "read_manifest",
    "row",
    "verify",
    "write_manifest",
]
