"""Denoisers from diffusers: their clean means and steps are those of the library's schedulers."""

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

# The rest is imported after the skip: it is of no use without the library.
from genonset import seeds  # noqa: E402
from genonset.errors import ConfigError, DataError  # noqa: E402
from genonset.noise import DiscreteVariancePreserving, TabulatedVariancePreserving  # noqa: E402
from genonset.pretrained import denoiser_noise, from_diffusers, read_diffusers  # noqa: E402
from genonset.samplers import DDIM, DDPM  # noqa: E402

K = 50


def network():
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    ).double().eval()  # fmt: skip


def images(*names):
    return 2 * torch.randn(
        3, 1, 8, 8, dtype=torch.float64, generator=seeds.generator(0, "pretrained", *names)
    )


CORRECTIONS = {
    "none": {"clip_sample": False},
    "clipped": {"clip_sample": True, "clip_sample_range": 0.7},
    "thresholded": {"clip_sample": False, "thresholding": True, "sample_max_value": 1.5},
}


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("target", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_clean_means_and_steps_are_those_of_the_scheduler(correction, target, schedule):
    """Against DDIMScheduler.step, whose tables are float32."""
    options = {
        "num_train_timesteps": K, "beta_schedule": schedule, "prediction_type": target,
        "set_alpha_to_one": True, **CORRECTIONS[correction],
    }  # fmt: skip
    unet, scheduler = network(), diffusers.DDIMScheduler(**options)
    scheduler.set_timesteps(K)
    denoiser = from_diffusers(unet, scheduler)
    sampler = DDIM(denoiser_noise(denoiser), n_steps=K, grid="uniform")
    for k in (1, 2, 25, 49):
        x_t = images(k)
        with torch.no_grad():
            output = unet(x_t, k - 1).sample
            theirs = scheduler.step(output, k - 1, x_t, use_clipped_model_output=True)
            t, s = (torch.tensor(float(time)).double() for time in (k, k - 1))
            ours = denoiser(x_t, t)
            step = sampler.step(denoiser, x_t, t, s, generator=torch.Generator())
        torch.testing.assert_close(ours, theirs.pred_original_sample, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(step, theirs.prev_sample, rtol=1e-4, atol=1e-4)


def test_ancestral_steps_have_the_mean_and_variance_of_the_scheduler():
    unet = network()
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=K, clip_sample=False)
    denoiser = from_diffusers(unet, scheduler)
    sampler = DDPM(denoiser_noise(denoiser), n_steps=K, grid="uniform")
    for k in (2, 30):
        x_t = images("ancestral", k)
        t, s = (torch.tensor(float(time)).double() for time in (k, k - 1))
        assert sampler.spread(t, s) ** 2 == pytest.approx(
            float(scheduler._get_variance(k - 1)), rel=1e-3
        )
        with torch.no_grad():
            output = unet(x_t, k - 1).sample
            noisy = scheduler.step(
                output, k - 1, x_t, generator=torch.Generator().manual_seed(0)
            ).prev_sample
            z = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(0), dtype=x_t.dtype)
            mean = sampler.move(denoiser, x_t, t, s)
        torch.testing.assert_close(mean + sampler.spread(t, s) * z, noisy, rtol=1e-4, atol=1e-4)


def test_a_pipeline_folder_is_read_and_samples(tmp_path):
    unet = network().float()
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=K)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "pipeline")
    denoiser = read_diffusers(tmp_path / "pipeline")
    assert denoiser.shape == (1, 8, 8)
    sampler = DDIM(denoiser_noise(denoiser), n_steps=4)
    drawn = sampler.sample(denoiser, 5, generator=seeds.generator(0))
    assert drawn.shape == (5, 1, 8, 8)
    assert float(drawn.abs().max()) <= 1  # clipped, as the scheduler says
    x_t, t = images("folder"), torch.tensor(7.0).double()
    torch.testing.assert_close(denoiser(x_t, t), from_diffusers(unet, scheduler)(x_t, t))


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(DataError, match="with unet"):
        read_diffusers(tmp_path)
    with pytest.raises(ConfigError, match="with betas"):
        from_diffusers(network(), diffusers.EDMEulerScheduler())
    with pytest.raises(ConfigError, match="some signal stays"):
        TabulatedVariancePreserving(schedule=(0.1, 1.0))


def test_a_table_of_equal_steps_is_the_discrete_process():
    discrete = DiscreteVariancePreserving(n_steps=K)
    table = TabulatedVariancePreserving(schedule=tuple(discrete.betas.tolist()))
    t = torch.linspace(0, K, 101, dtype=torch.float64)
    assert torch.equal(table.alpha(t), discrete.alpha(t))
    assert torch.equal(table.sigma(t), discrete.sigma(t))
