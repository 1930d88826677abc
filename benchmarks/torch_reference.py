"""The `paper` graph of DPConv and the `benchmark` graph of PConv in PyTorch, as the yardsticks of `against_torch.py`.

Their partial convolution is the reference multi-channel layer: a mask as wide as its features, convolved with a kernel
of ones as large as the weights. Written from Eq. (1)-(4). NCHW; mask 1 = valid, 0 = hole.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

Pair = tuple[torch.Tensor, torch.Tensor | None]


class Conv(nn.Module):
    """Eq. (1)-(4) over masks of as many channels as the features; mask None is a plain convolution."""

    def __init__(self, inputs: int, outputs: int, size: int, *, strides: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, strides, dilation * (size // 2), dilation)
        self.register_buffer("ones", torch.ones_like(self.conv.weight), persistent=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> Pair:
        conv = self.conv
        if mask is None:
            return conv(x), None
        with torch.no_grad():
            count = F.conv2d(mask, self.ones, None, conv.stride, conv.padding, conv.dilation)
            updated = (count > 0).to(x.dtype)
            scale = self.ones[0].numel() / count.clamp(min=1) * updated
        linear = F.conv2d(x * mask, conv.weight, None, conv.stride, conv.padding, conv.dilation)
        return linear * scale + conv.bias[:, None, None] * updated, updated

    @torch.no_grad()
    def load(self, theirs: dict[str, np.ndarray]) -> None:
        self.conv.weight.copy_(torch.from_numpy(np.array(theirs["kernel"].transpose(3, 2, 0, 1))))
        self.conv.bias.copy_(torch.from_numpy(np.array(theirs["bias"])))


class Attention(nn.Module):
    """x + gamma x softmax(query . key) value over positions; keys in holes are left out."""

    def __init__(self, features: int):
        super().__init__()
        self.query, self.key = nn.Conv2d(features, features // 8, 1), nn.Conv2d(features, features // 8, 1)
        self.value = nn.Conv2d(features, features, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        logits = query.transpose(1, 2) @ key
        if valid is not None:
            logits = logits.masked_fill(valid.flatten(2) == 0, torch.finfo(x.dtype).min)
        weights = logits.softmax(-1)
        return x + self.gamma * (value @ weights.transpose(1, 2)).view_as(x)

    @torch.no_grad()
    def load(self, theirs: dict) -> None:
        self.gamma.copy_(torch.from_numpy(np.array(theirs["gamma"])))
        for name, layer in self.named_children():
            layer.weight.copy_(torch.from_numpy(np.array(theirs[name]["kernel"].T[:, :, None, None])))
            layer.bias.copy_(torch.from_numpy(np.array(theirs[name]["bias"])))


def _double(pair: Pair) -> Pair:
    x, mask = pair
    return F.interpolate(x, scale_factor=2), None if mask is None else F.interpolate(mask, scale_factor=2)


def _concat(*pairs: Pair) -> Pair:
    features, masks = zip(*pairs, strict=True)
    return torch.cat(features, 1), None if masks[0] is None else torch.cat(masks, 1)


def _attended(layer: Attention, x: torch.Tensor, mask: torch.Tensor | None) -> Pair:
    return (layer(x, None) if mask is None else layer(x * mask, mask[:, :1])), mask


def _rectified(layer: Conv, x: torch.Tensor, mask: torch.Tensor | None) -> Pair:
    x, mask = layer(x, mask)
    return F.relu(F.instance_norm(x)), mask


def _leaky(layer: Conv, x: torch.Tensor, mask: torch.Tensor | None) -> Pair:
    x, mask = layer(x, mask)
    return F.leaky_relu(F.instance_norm(x), 0.2), mask


class DPConv(nn.Module):
    def __init__(self, *, width: float = 1.0, dilations: tuple[int, ...] = (2, 4, 8, 2)):
        super().__init__()
        c64, c128, c256 = (max(8, round(width * channels)) for channels in (64, 128, 256))
        self.e0 = Conv(3, c64, 7, strides=2)
        self.e1 = Conv(c64, c128, 5, strides=2)
        self.e2 = Conv(c128, c256, 5)
        self.e3 = Conv(c256, c128, 5, strides=2)
        self.d1, self.d2, self.d3, self.d4 = (Conv(c128, c128, 3, dilation=rate) for rate in dilations)
        self.a1 = Attention(c128)
        self.u1 = Conv(2 * c128, c128, 3)
        self.u2 = Conv(c256 + c128, c128, 3)
        self.a2 = Attention(c128)
        self.u3 = Conv(c128 + c64, c64, 3)
        self.u4 = Conv(c64 + 3, 3, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """x (B, 3, H, W) with holes 0, mask (B, 1, H, W), or None for plain convolutions -> (B, 3, H, W)."""
        image = (x, None if mask is None else mask.expand_as(x))
        e0, m0 = self.e0(*image)
        e0 = F.leaky_relu(e0, 0.2), m0
        e2 = _leaky(self.e2, *_leaky(self.e1, *e0))
        e3 = _leaky(self.e3, *e2)
        d = _leaky(self.d1, *e3)
        for layer in (self.d2, self.d3, self.d4):
            y, m = _leaky(layer, *d)
            d = y + d[0], m
        u1 = _leaky(self.u1, *_double(_concat(e3, _attended(self.a1, *d))))
        u2 = _leaky(self.u2, *_concat(e2, u1))
        u3 = _leaky(self.u3, *_concat(_double(_attended(self.a2, *u2)), e0))
        return torch.sigmoid(self.u4(*_concat(_double(u3), image))[0])

    def load(self, parameters: dict[str, dict]) -> None:
        """Take the parameters of `dpconv_jax.models.dpconv.DPConv` as a pure dict of NumPy arrays."""
        for name, layer in self.named_children():
            layer.load(parameters[name])


class PConv(nn.Module):
    def __init__(self, *, width: float = 1.0):
        super().__init__()
        c64, c128, c256 = (max(8, round(width * channels)) for channels in (64, 128, 256))
        encoder = (3, c64, 7, 2), (c64, c128, 5, 2), (c128, c256, 5, 1), (c256, c256, 5, 2), (c256, c128, 3, 2)
        self.encoder = nn.ModuleList(Conv(i, o, size, strides=strides) for i, o, size, strides in encoder)
        decoder = (c128 + c256, c128), (c128 + c256, c128), (c128 + c64, c64), (c64 + 3, 3)
        self.decoder = nn.ModuleList(Conv(i, o, 3) for i, o in decoder)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """As that of `DPConv`."""
        image = (x, None if mask is None else mask.expand_as(x))
        e0, m0 = self.encoder[0](*image)
        e0 = F.relu(e0), m0
        e2 = _rectified(self.encoder[2], *_rectified(self.encoder[1], *e0))
        e3 = _rectified(self.encoder[3], *e2)
        e4 = _rectified(self.encoder[4], *e3)
        u1 = _leaky(self.decoder[0], *_concat(_double(e4), e3))
        u2 = _leaky(self.decoder[1], *_concat(_double(u1), e2))
        u3 = _leaky(self.decoder[2], *_concat(_double(u2), e0))
        return torch.sigmoid(self.decoder[3](*_concat(_double(u3), image))[0])

    def load(self, parameters: dict[str, dict]) -> None:
        """Take the parameters of `dpconv_jax.models.pconv.PConv` as a pure dict of NumPy arrays."""
        for part, layers in self.named_children():
            for index, layer in enumerate(layers):
                layer.load(parameters[part][index]["conv"])
