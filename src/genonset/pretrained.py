"""Pretrained denoisers: models of the diffusers library as estimates of the clean mean.

A diffusers scheduler numbers its noise levels 0 .. K - 1, the last with alpha-bar_K; here they are
the times 1 .. K of

    (1)  alpha(k)² = prod_(j <= k) (1 - beta_j),    sigma² = 1 - alpha²

and between them alpha-bar is log-linear. The network is told k - 1, also at fractions. What it
predicts, the scheduler says: noise (epsilon), the clean point (sample) or v.

Schedulers also *correct* the clean mean before a step, and so do these denoisers, by name:

    (2)  clip_sample     x_0 limited to [-range, range]
    (3)  thresholding    with s the quantile `ratio` of |x_0| over the coordinates of a point,
                         1 <= s <= largest:  x_0 limited to [-s, s], divided by s

A corrected mean is no posterior mean, and its score no score, where the correction acts.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genonset.denoisers import Denoiser, NeuralDenoiser
from genonset.errors import ConfigError, DataError
from genonset.noise import TabulatedVariancePreserving
from genonset.tensors import Samples, Times

TARGETS = {"epsilon": "noise", "sample": "clean", "v_prediction": "v"}


class Clipped(Denoiser):
    """A denoiser whose clean mean is limited to [-limit, limit], equation (2)."""

    def __init__(self, denoiser: Denoiser, limit: float) -> None:
        super().__init__()
        self.denoiser, self.limit, self.shape = denoiser, limit, denoiser.shape

    def forward(self, x_t: Samples, t: Times) -> Samples:
        return self.denoiser(x_t, t).clamp(-self.limit, self.limit)


class Thresholded(Denoiser):
    """A denoiser with dynamic thresholding, equation (3).

    Reference:
        Saharia et al. 2022, Photorealistic text-to-image diffusion models, section 2.3.
    """

    def __init__(self, denoiser: Denoiser, ratio: float, largest: float) -> None:
        super().__init__()
        self.denoiser, self.ratio, self.largest = denoiser, ratio, largest
        self.shape = denoiser.shape

    def forward(self, x_t: Samples, t: Times) -> Samples:
        clean = self.denoiser(x_t, t)
        size = clean.flatten(1).abs().quantile(self.ratio, dim=1).clamp(1, self.largest)
        size = size.reshape(-1, *[1] * (clean.ndim - 1))
        return torch.minimum(torch.maximum(clean, -size), size) / size


class _Told(nn.Module):
    """A diffusers network as forward(x, t) -> Tensor, with t the times of (1)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, (t - 1).clamp(min=0)).sample


def from_diffusers(network: nn.Module, scheduler: Any) -> Denoiser:
    """A diffusers network and its scheduler as a denoiser, corrections included.

    Its noise process is that of the scheduler: sample it with
    `DDPM(denoiser_noise(denoiser), n_steps=K, grid="uniform")` or any other sampler.

    Args:
        network: a `UNet2DModel`, or a module with the same call.
        scheduler: with betas, such as `DDPMScheduler` or `DDIMScheduler`.

    Raises:
        ConfigError: a scheduler without betas, with zero terminal signal, or of another target.

    Reference:
        Ho, Jain and Abbeel 2020, section 3.2; Salimans and Ho 2022, appendix D (v).
    """
    config = scheduler.config
    betas, target = getattr(scheduler, "betas", None), config.get("prediction_type", "epsilon")
    if betas is None or target not in TARGETS:
        raise ConfigError(
            f"{type(scheduler).__name__} with prediction type {target!r} is not understood; "
            f"schedulers with betas and one of {', '.join(TARGETS)} are, such as DDPMScheduler."
        )
    noise = TabulatedVariancePreserving(schedule=tuple(torch.as_tensor(betas).double().tolist()))
    size, channels = (getattr(network.config, k, None) for k in ("sample_size", "in_channels"))
    sides = (size, size) if isinstance(size, int) else size
    denoiser: Denoiser = NeuralDenoiser(
        _Told(network).eval(),
        noise,
        TARGETS[target],
        clock=noise.horizon,
        shape=(channels, *sides) if channels and sides else None,
    )
    if config.get("thresholding", False):
        ratio, largest = config["dynamic_thresholding_ratio"], config["sample_max_value"]
        return Thresholded(denoiser, ratio, largest)
    if config.get("clip_sample", False):
        return Clipped(denoiser, config.get("clip_sample_range", 1.0))
    return denoiser


def denoiser_noise(denoiser: Denoiser) -> TabulatedVariancePreserving:
    """The noise process that a denoiser of `from_diffusers` was trained for.

    Raises:
        ConfigError: it is no such denoiser.
    """
    inner = denoiser.denoiser if isinstance(denoiser, Clipped | Thresholded) else denoiser
    noise = getattr(inner, "noise", None)
    if not isinstance(noise, TabulatedVariancePreserving):
        raise ConfigError(f"{type(denoiser).__name__} did not come from from_diffusers.")
    return noise


def read_diffusers(folder: str | Path) -> Denoiser:
    """The denoiser of a pipeline folder: `unet/` in safetensors, `scheduler/`.

    Nothing is downloaded, and pickled weights are not read.

    Raises:
        ConfigError: diffusers is not installed, or its scheduler is not understood.
        DataError: the folder holds no such pipeline.
    """
    try:
        import diffusers
    except ImportError:
        raise ConfigError(
            "diffusers is not installed: pip install 'genonset[diffusers]'."
        ) from None
    folder = Path(folder)
    try:
        settings = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        name = settings.get("_class_name", "DDPMScheduler")
        scheduler = getattr(diffusers, name).from_config(settings)
        network = diffusers.UNet2DModel.from_pretrained(  # pyright: ignore[reportPrivateImportUsage]
            folder / "unet", local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder} holds no pipeline that can be read: {str(error).splitlines()[0]} A folder "
            "with unet/config.json, unet/*.safetensors and scheduler/scheduler_config.json is "
            "needed, as pipeline.save_pretrained(folder) writes it."
        ) from None
    return from_diffusers(network, scheduler)
