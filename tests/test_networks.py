"""The networks: their sizes, their shapes, and that every parameter and the time matter."""

import math

import pytest
import torch

from genonset import seeds
from genonset.errors import ConfigError, DataError
from genonset.networks import Conv2d, ResidualMLP, UNet, embed_time, parameter_count


def noise(*shape, name="x"):
    return torch.randn(*shape, generator=seeds.generator(0, name))


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet(channels=1).eval()


def test_published_size(unet):
    assert parameter_count(unet) == 12_919_041


@pytest.mark.parametrize(("d", "w"), [(8, 128), (1, 2), (61, 64)])
def test_size_of_the_perceptron(d, w):
    expected = w * (2 * d + 13) + d + 6 * w**2
    assert parameter_count(ResidualMLP(dim=d, width=w)) == expected


def test_width_and_attention_change_the_size():
    small, bare = UNet(width=8), UNet(width=8, attention=False)
    attention = sum(6 * c**2 + 10 * c for c in (32, 32, 16))
    assert parameter_count(small) - parameter_count(bare) == attention
    assert parameter_count(UNet(width=16)) > 3.8 * parameter_count(small)


@pytest.mark.parametrize("pixels", [(8, 8), (16, 16), (9, 13), (28, 28)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(pixels, channels):
    x = noise(2, channels, *pixels)
    assert UNet(channels, width=4)(x, torch.tensor([1.0, 2.0])).shape == x.shape


def test_embedding_is_sines_and_cosines():
    found = embed_time(torch.tensor([3.0, 250.0], dtype=torch.float64), 6)
    for row, t in zip(found.tolist(), (3.0, 250.0), strict=True):
        w = [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)]
        assert row == pytest.approx([math.sin(t * v) for v in w] + [math.cos(t * v) for v in w])


@pytest.mark.parametrize("network", [ResidualMLP(dim=256, width=16), UNet(width=4)])
def test_points_of_a_batch_do_not_meet_and_each_has_its_time(network):
    x = noise(3, 256) if isinstance(network, ResidualMLP) else noise(3, 1, 16, 16)
    t = torch.tensor([1.0, 20.0, 400.0])
    together = network(x, t)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1], t[i : i + 1])[0], together[i])
    moved = network(x, torch.tensor([1.0, 20.0, 401.0]))
    torch.testing.assert_close(moved[:2], together[:2])
    assert (moved[2] - together[2]).abs().max() > 1e-4


@pytest.mark.parametrize("network", [ResidualMLP(dim=8, width=16), UNet(2, width=4)])
def test_every_parameter_learns(network):
    """Except the bias of the keys, which a softmax cannot see."""
    x = noise(4, 8) if isinstance(network, ResidualMLP) else noise(4, 2, 16, 16)
    network(x, torch.arange(1.0, 5.0)).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        rows = p.grad.flatten(1).abs().amax(1) if p.ndim > 1 else p.grad.abs()
        if name.endswith("in_proj_bias"):
            c = len(rows) // 3
            assert rows[c : 2 * c].max() < 1e-6
            rows = torch.cat([rows[:c], rows[2 * c :]])
        assert (rows > 0).all(), name


def test_memory_format_does_not_matter(unet):
    x, t = noise(2, 1, 16, 16), torch.tensor([5.0, 150.0])
    with torch.no_grad():
        plain = unet(x, t)
        last = unet.to(memory_format=torch.channels_last)(
            x.to(memory_format=torch.channels_last), t
        )
        unet.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ResidualMLP(dim=8, width=7), "even width"),
        (lambda: ResidualMLP(dim=0), "dim >= 1"),
        (lambda: UNet(channels=0), "channels >= 1"),
        (lambda: UNet(width=3), "even width"),
    ],
)
def test_refusals(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_images_too_small_or_of_other_channels():
    network = UNet(width=2)
    with pytest.raises(DataError, match="8x8"):
        network(noise(1, 1, 7, 8), torch.ones(1))
    with pytest.raises(DataError, match="1 channels"):
        network(noise(1, 3, 8, 8), torch.ones(1))


@pytest.mark.parametrize(("side", "n_in", "n"), [(1, 8, 3), (1, 256, 70), (2, 256, 70), (2, 8, 3)])
def test_convolution_of_small_images_is_torchs(side, n_in, n):
    """Values and both gradients, in float64 to rounding: no pair of pixels is left out."""
    torch.manual_seed(0)
    ours = Conv2d(n_in, 6).double()
    x = noise(n, n_in, side, side).double()
    slopes = noise(n, 6, side, side).double()
    found = []
    for call in (ours, lambda x: torch.nn.functional.conv2d(x, ours.weight, padding=1)):
        given = x.clone().requires_grad_()
        y = call(given)
        found.append((y, *torch.autograd.grad((y * slopes).sum(), (given, ours.weight))))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
