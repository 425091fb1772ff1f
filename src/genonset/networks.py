"""Networks: plain modules forward(x, t) that know nothing of diffusion.

Time enters through sines and cosines without parameters, of c channels,

    (1)  e_k(t) = sin(w_k t),    e_{c/2 + k}(t) = cos(w_k t),    w_k = 10000^(-2k/c),  k < c/2

so that t is resolved best between about 1 and 10,000: whoever calls the network chooses the
unit. Number of parameters, W the width:

    (2)  ResidualMLP    W (2d + 13) + d + 6W²         102,024 at d = 8, W = 128
    (3)  UNet           12,919,041                    at one channel, W = 64, with attention

The U-Net is that of the published experiment: three levels below the input, of widths W, 2W, 4W
and 4W; two double convolutions a level, each with normalization over all channels; (1) added
after every level; four-head self-attention at the two coarsest levels going down and at the
coarser one going up; bilinear upsampling, skips by concatenation. The residual MLP has three
blocks  x <- norm(x + A gelu(B (x + e(t)))). On images of one pixel, which 8x8 become in the
middle, eight ninths of the weights of (3) there meet padding only.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genonset.errors import ConfigError, DataError
from genonset.tensors import Vectors, product

Images = Float[Tensor, "n channels height width"]
"""n images."""

HEADS = 4
SMALLEST = 8  # pixels of a side: three halvings leave one


def parameter_count(network: nn.Module) -> int:
    """Number of trainable numbers of a network.

    >>> parameter_count(ResidualMLP(dim=8, width=128))
    102024
    """
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def embed_time(t: Float[Tensor, " n"], channels: int) -> Float[Tensor, "n channels"]:
    """Sines and cosines of a time, equation (1), in the dtype of t.

    Args:
        t: one time a point.
        channels: c, even.

    Reference:
        Vaswani et al. 2017, section 3.5; Ho, Jain and Abbeel 2020, appendix B.
    """
    k = torch.arange(channels // 2, device=t.device, dtype=t.dtype)
    angles = t[:, None] * torch.exp(-2 * math.log(10_000) / channels * k)
    return torch.cat([angles.sin(), angles.cos()], 1)


class Linear(nn.Linear):
    """torch's layer on rows, its products by the faster library."""

    def forward(self, input: Vectors) -> Float[Tensor, "_ width"]:
        return product(input, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """torch's 3x3 convolution, padded, without bias; on the smallest images a plain product.

    An image of one pixel meets the middle of the kernel alone. In one of 2x2 all pixels meet all:
    four products, of 16 pairs of pixels where a convolution of the padded image counts 36.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 3, padding=1, bias=False)

    def forward(self, input: Images) -> Float[Tensor, "n others height width"]:
        if input.shape[2:] == (1, 1):
            return product(input.flatten(1), self.weight[:, :, 1, 1])[:, :, None, None]
        pays = torch.is_grad_enabled() and len(input) >= 64 and self.in_channels >= 256
        if pays and input.shape[2:] == (2, 2):
            return self._by_pairs(input)
        return super().forward(input)

    def _by_pairs(self, input: Images) -> Float[Tensor, "n others height width"]:
        """Weights by rows (pixel of the input, its channel), a matrix for each output pixel."""
        offset = torch.arange(2) - torch.arange(2)[:, None] + 1
        taps = 3 * offset[:, None, :, None] + offset[None, :, None, :]
        kernel = self.weight.flatten(2).permute(2, 1, 0).contiguous()
        weights = kernel.index_select(0, taps.flatten().to(kernel.device))
        rows = input.flatten(2).transpose(1, 2).flatten(1)
        pixels = [product(rows, w.T) for w in weights.view(4, -1, self.out_channels)]
        return torch.stack(pixels, -1).unflatten(2, (2, 2))


class ResidualMLP(nn.Module):
    """A residual network on vectors, equation (2).

    Args:
        dim: number of coordinates of a point.
        width: hidden units, even; the parameter axis.

    Raises:
        ConfigError: unless dim >= 1 and the width is even and positive.

    Reference:
        The layout of Bonnaire, Urfin, Biroli and Mezard 2025, their Gaussian-mixture network.
    """

    def __init__(self, dim: int = 8, width: int = 128) -> None:
        super().__init__()
        if dim < 1 or width < 2 or width % 2:
            raise ConfigError(
                f"ResidualMLP needs dim >= 1 and an even width >= 2, got {dim} and {width}."
            )
        self.dim, self.width = dim, width
        self.enter = Linear(dim, width)
        self.blocks = nn.ModuleList(_MLPBlock(width) for _ in range(3))
        self.leave = Linear(width, dim)

    def forward(self, x: Vectors, t: Float[Tensor, " n"]) -> Vectors:
        """One vector for each x at its time t, of the shape of x."""
        time = embed_time(t, self.width)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, time)
        return self.leave(h)


class _MLPBlock(nn.Module):
    """norm(x + A gelu(B (x + time)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = Linear(width, width), Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.norm(x + self.outer(F.gelu(self.inner(x + time))))


class UNet(nn.Module):
    """The U-Net of the paper on images of at least 8x8 pixels, equation (3).

    Args:
        channels: of an image.
        width: W, channels of the finest level, even; the parameter axis.
        attention: whether the coarse levels attend; without it the network is convolutional.

    Raises:
        ConfigError: unless channels >= 1 and the width is even and positive.

    Reference:
        Halder and Pehlevan, section 4; the layout is that of their public code.
    """

    def __init__(self, channels: int = 1, width: int = 64, *, attention: bool = True) -> None:
        super().__init__()
        if channels < 1 or width < 2 or width % 2:
            raise ConfigError(
                f"UNet needs channels >= 1 and an even width >= 2, got {channels} and {width}."
            )
        self.channels, self.width = channels, width
        w, attend = width, _Attention if attention else _Nothing
        self.enter = _Convolutions(channels, w)
        self.down = nn.ModuleList([_Down(w, 2 * w), _Down(2 * w, 4 * w), _Down(4 * w, 4 * w)])
        self.attend_down = nn.ModuleList([_Nothing(2 * w), attend(4 * w), attend(4 * w)])
        self.up = nn.ModuleList([_Up(8 * w, 2 * w), _Up(4 * w, w), _Up(2 * w, w)])
        self.attend_up = nn.ModuleList([attend(2 * w), _Nothing(w), _Nothing(w)])
        self.leave = nn.Conv2d(w, channels, 1)

    def forward(self, x: Images, t: Float[Tensor, " n"]) -> Images:
        """One image for each x at its time t, of the shape of x.

        Raises:
            DataError: images of other channels, or smaller than 8x8.
        """
        if x.shape[1] != self.channels or min(x.shape[2:]) < SMALLEST:
            raise DataError(
                f"This UNet takes images of {self.channels} channels and at least {SMALLEST}x"
                f"{SMALLEST} pixels, got {x.shape[1]} channels of {x.shape[2]}x{x.shape[3]}."
            )
        h = self.enter(x)
        skips = []
        for down, attend in zip(self.down, self.attend_down, strict=True):
            skips.append(h)
            h = attend(_add_time(down(h), t))
        for up, attend in zip(self.up, self.attend_up, strict=True):
            h = attend(_add_time(up(h, skips.pop()), t))
        return self.leave(h)


def _add_time(h: Tensor, t: Tensor) -> Tensor:
    return h + embed_time(t, h.shape[1])[:, :, None, None]


class _Convolutions(nn.Module):
    """Two 3x3 convolutions, each normalized over channels and pixels; residual where asked."""

    def __init__(
        self, n_in: int, n_out: int, n_mid: int | None = None, *, residual: bool = False
    ) -> None:
        super().__init__()
        n_mid = n_mid or n_out
        self.residual = residual
        self.first = Conv2d(n_in, n_mid)
        self.first_norm = nn.GroupNorm(1, n_mid)
        self.second = Conv2d(n_mid, n_out)
        self.second_norm = nn.GroupNorm(1, n_out)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.first_norm(self.first(x)))
        h = self.second_norm(self.second(h))
        return F.gelu(x + h) if self.residual else h


class _Down(nn.Module):
    """Halve the image, then convolve."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.refine = _Convolutions(n_in, n_in, residual=True)
        self.change = _Convolutions(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.refine(F.max_pool2d(x, 2)))


class _Up(nn.Module):
    """Enlarge the image to its skip, concatenate, then convolve."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.refine = _Convolutions(n_in, n_in, residual=True)
        self.change = _Convolutions(n_in, n_out, n_in // 2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
        return self.change(self.refine(torch.cat([skip, x], 1)))


class _Attention(nn.Module):
    """Self-attention of pixels and a two-layer perceptron, both residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, HEADS, batch_first=True)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.GELU(),
            nn.Linear(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)
        normed = self.norm(pixels)
        pixels = pixels + self.attention(normed, normed, normed, need_weights=False)[0]
        pixels = pixels + self.perceptron(pixels)
        return pixels.transpose(1, 2).unflatten(2, x.shape[2:])


class _Nothing(nn.Identity):
    """In the place of attention where there is none."""
