"""The spec of a sweep: a TOML file, checked as a whole, unfolded into cells.

A sweep is a grid: variants x axes x n x replicates. Each point of it is a `Cell`, which holds all
that its numbers depend on and nothing else; the hash of its canonical JSON, with a schema number,
is its key in the store. Every class here is frozen and refuses options it does not know.
"""

import difflib
import hashlib
import importlib.util
import itertools
import json
import math
import textwrap
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from torch import nn

from genonset import datasets, distances, seeds
from genonset.criteria import CRITERIA, GROUPS, Generated
from genonset.datasets import Dataset
from genonset.denoisers import (
    Denoiser,
    ExactDenoiser,
    KernelDenoiser,
    NeuralDenoiser,
    Precision,
    Target,
    fit_linear,
    population_linear,
)
from genonset.errors import ConfigError, DataError, GenonsetError
from genonset.networks import SMALLEST, ResidualMLP, UNet
from genonset.noise import (
    Cosine,
    DiscreteVariancePreserving,
    NoiseProcess,
    OrnsteinUhlenbeck,
    Rectified,
    VarianceExploding,
    VariancePreserving,
)
from genonset.published import PublishedArithmetic, PublishedNetworkArithmetic
from genonset.samplers import (
    DDIM,
    DDPM,
    Euler,
    EulerMaruyama,
    Grid,
    Heun,
    OneStep,
    Sampler,
    Start,
    estimated_start,
    population_start,
)
from genonset.sources import Circle, Empirical, Gaussian, GaussianMixture, TwoMoons
from genonset.tensors import Samples, Vectors, flatten, require_finite
from genonset.training import Monitor, Recipe, train

SCHEMA = 2
"""Raised whenever the numbers of an unchanged cell change.

2: ties of nearest neighbours go by the order of coordinates, and equal rows share samples in
parts; medians of distances are of rows drawn at random.
"""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Table(BaseModel):
    """One table of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class OfFiles(Table):
    """A table that stands for files; the `sha256` of their content is filled in by a run."""

    sha256: str | None = None

    @property
    def content_name(self) -> str:
        """What `Sweep.contents` calls it."""
        return self.model_dump_json(exclude={"sha256"})


# -- noise -------------------------------------------------------------------------------------


class NoiseTable(Table):
    """A noise whose options are those of its process, which checks them."""

    process: ClassVar[Callable[..., NoiseProcess]]

    @model_validator(mode="after")
    def _accepted(self):
        self.build()
        return self

    def build(self) -> NoiseProcess:
        """The process."""
        return type(self).process(**self.model_dump(exclude={"kind"}))


class OrnsteinUhlenbeckNoise(NoiseTable):
    """x_t = e^-t x_0 + sqrt(noise_scale (1 - e^-2t)) eps, up to the horizon."""

    kind: Literal["ornstein_uhlenbeck"] = "ornstein_uhlenbeck"
    horizon: Positive = 2.0
    noise_scale: Positive = 1.0

    process = OrnsteinUhlenbeck


class VariancePreservingNoise(NoiseTable):
    """alpha² + sigma² = 1, beta rising linearly up to the horizon."""

    kind: Literal["variance_preserving"]
    horizon: Positive = 1.0
    beta_min: Number = 0.1
    beta_max: Number = 20.0

    process = VariancePreserving


class DiscreteVariancePreservingNoise(NoiseTable):
    """The schedule of DDPM in whole steps; the paper's U-Net has 200, beta from 1e-4 to 0.02."""

    kind: Literal["discrete_variance_preserving"]
    n_steps: Count = 200
    beta_min: Number = 1e-4
    beta_max: Number = 0.02

    process = DiscreteVariancePreserving


class CosineNoise(NoiseTable):
    """alpha a cosine of time; the horizon lies before 1, where no signal is left."""

    kind: Literal["cosine"]
    horizon: Positive = 0.99
    offset: Number = 0.008

    process = Cosine


class VarianceExplodingNoise(NoiseTable):
    """The signal stays, the noise grows geometrically to sigma_max at t = 1."""

    kind: Literal["variance_exploding"]
    horizon: Positive = 1.0
    sigma_min: Number = 0.01
    sigma_max: Number = 50.0

    process = VarianceExploding


class RectifiedNoise(NoiseTable):
    """alpha = 1 - t, sigma = t; the horizon lies before 1, where no signal is left."""

    kind: Literal["rectified"]
    horizon: Positive = 0.99

    process = Rectified


def _default_noise(table: Any) -> Any:
    """A noise without a kind is the paper's."""
    return {"kind": "ornstein_uhlenbeck", **table} if isinstance(table, dict) else table


AnyNoise = Annotated[
    Annotated[
        OrnsteinUhlenbeckNoise
        | VariancePreservingNoise
        | DiscreteVariancePreservingNoise
        | CosineNoise
        | VarianceExplodingNoise
        | RectifiedNoise,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_default_noise),
]


# -- sources -----------------------------------------------------------------------------------


class PowerLaw(Table):
    """c_k proportional to k^-exponent, with mean `variance`."""

    kind: Literal["power_law"]
    exponent: Number = 1.0
    variance: Positive = 1.0

    def eigenvalues(self, dim: int) -> torch.Tensor:
        raw = torch.arange(1, dim + 1, dtype=torch.float64) ** -self.exponent
        return self.variance * raw / raw.mean()


class LowRank(Table):
    """`rank` eigenvalues of size `variance` over a floor; a floor of 0 is a singular law."""

    kind: Literal["low_rank"]
    rank: Count
    variance: Positive = 1.0
    floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def eigenvalues(self, dim: int) -> torch.Tensor:
        values = torch.full((dim,), self.floor, dtype=torch.float64)
        values[: self.rank] = self.variance
        return values


class GaussianSource(Table):
    """N(mean, C); C from exactly one of std, variance, spectrum and covariance (default std 1)."""

    kind: Literal["gaussian"]
    dim: Count
    mean: Number | tuple[Number, ...] = 0.0
    std: Positive | None = None
    variance: Positive | None = None
    spectrum: (
        tuple[Number, ...] | Annotated[PowerLaw | LowRank, Field(discriminator="kind")] | None
    ) = None
    covariance: tuple[tuple[Number, ...], ...] | None = None

    @model_validator(mode="after")
    def _fits(self):
        given = [
            k
            for k in ("std", "variance", "spectrum", "covariance")
            if getattr(self, k) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"give one of std, variance, spectrum and covariance, not {given}")
        if isinstance(self.mean, tuple) and len(self.mean) != self.dim:
            raise ValueError(f"mean has {len(self.mean)} numbers where dim is {self.dim}")
        if isinstance(self.spectrum, tuple) and len(self.spectrum) != self.dim:
            raise ValueError(f"spectrum has {len(self.spectrum)} numbers where dim is {self.dim}")
        if isinstance(self.spectrum, LowRank) and self.spectrum.rank > self.dim:
            raise ValueError(f"rank {self.spectrum.rank} exceeds dim {self.dim}")
        if self.covariance and {len(self.covariance), *map(len, self.covariance)} != {self.dim}:
            raise ValueError(f"covariance must be {self.dim} x {self.dim}")
        return self

    def build(self) -> Gaussian:
        mean = torch.as_tensor(self.mean, dtype=torch.float64).expand(self.dim).clone()
        if self.covariance is not None:
            return Gaussian(mean, torch.tensor(self.covariance, dtype=torch.float64))
        if isinstance(self.spectrum, tuple):
            return Gaussian(mean, torch.tensor(self.spectrum, dtype=torch.float64))
        if self.spectrum is not None:
            return Gaussian(mean, self.spectrum.eigenvalues(self.dim))
        return Gaussian(
            mean, self.variance if self.variance is not None else (self.std or 1.0) ** 2
        )


class MixtureSource(Table):
    """Gaussian mixture; covariances as K numbers, K lists of d, or K matrices."""

    kind: Literal["gaussian_mixture"]
    means: tuple[tuple[Number, ...], ...] = Field(min_length=1)
    weights: tuple[Positive, ...] | None = None
    covariances: (
        tuple[Number, ...]
        | tuple[tuple[Number, ...], ...]
        | tuple[tuple[tuple[Number, ...], ...], ...]
        | None
    ) = None

    @model_validator(mode="after")
    def _fits(self):
        if len({len(m) for m in self.means}) != 1:
            raise ValueError("all means need the same number of coordinates")
        for name in ("weights", "covariances"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.means):
                raise ValueError(f"{len(self.means)} means need as many {name}, not {len(given)}")
        return self

    def build(self) -> GaussianMixture:
        k = len(self.means)
        return GaussianMixture(
            self.weights or [1.0] * k,
            self.means,
            torch.tensor(self.covariances or [1.0] * k, dtype=torch.float64),
        )


class TwoMoonsSource(Table):
    """Two interleaved half circles in a plane, embedded in `dim`."""

    kind: Literal["two_moons"]
    dim: Annotated[int, Field(ge=2)] = 2
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05

    def build(self) -> TwoMoons:
        return TwoMoons(self.dim, self.noise)


class CircleSource(Table):
    """A circle in a plane, embedded in `dim`."""

    kind: Literal["circle"]
    dim: Annotated[int, Field(ge=2)] = 2
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05

    def build(self) -> Circle:
        return Circle(self.dim, self.noise)


class FiniteSource(OfFiles):
    """A finite data set, split disjointly."""


class DigitsSource(FiniteSource):
    """The 1,797 8x8 digits of scikit-learn, in [-1, 1]."""

    kind: Literal["digits"]

    def build(self) -> Dataset:
        return datasets.digits()


class GlyphsSource(FiniteSource):
    """16x16 glyphs drawn from fonts that ship with matplotlib, in [-1, 1]."""

    kind: Literal["glyphs"]

    def build(self) -> Dataset:
        return datasets.glyphs()


class ArraySource(FiniteSource):
    """Your array: .npy, .npz, .pt (weights only) or .safetensors."""

    kind: Literal["array"]
    path: str
    key: str | None = None
    deduplicate: bool = False

    def build(self) -> Dataset:
        return datasets.array(self.path, key=self.key, deduplicate=self.deduplicate)


class ImagesSource(FiniteSource):
    """Your folder of images, scaled to [-1, 1]; with `resize`, all to so many pixels a side."""

    kind: Literal["images"]
    path: str
    colour: bool | None = None
    resize: int | None = None
    deduplicate: bool = False

    @model_serializer(mode="wrap")
    def _usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Images as they are leave no `resize`: their cells keep the names that they had."""
        return {k: v for k, v in dump(self).items() if k != "resize" or v is not None}

    def build(self) -> Dataset:
        return datasets.images(
            self.path, colour=self.colour, resize=self.resize, deduplicate=self.deduplicate
        )


ExactOrDrawn = GaussianSource | MixtureSource | TwoMoonsSource | CircleSource
AnySource = Annotated[
    ExactOrDrawn | DigitsSource | GlyphsSource | ArraySource | ImagesSource,
    Field(discriminator="kind"),
]


# -- models ------------------------------------------------------------------------------------


class LinearOneStep(Table):
    """The linear one-step denoiser: regression of x_0 on x_t at the horizon."""

    kind: Literal["linear_one_step"]
    noise: AnyNoise = OrnsteinUhlenbeckNoise()
    start: Start = "estimated"
    ridge: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    n_noise_draws: Count = 1

    def fit(self, training: Vectors, *, generator: torch.Generator) -> Generated:
        """Fit to training points and give the generated law, a Gaussian."""
        noise = self.noise.build()
        denoiser, x_t = fit_linear(
            training,
            noise,
            ridge=self.ridge,
            n_noise_draws=self.n_noise_draws,
            generator=generator,
        )
        sampler = OneStep(noise=noise, start=estimated_start(training, x_t, noise, self.start))
        return Generated(
            draw=lambda n, generator: sampler.sample(denoiser, n, generator=generator),
            law=sampler.propagate(denoiser),
        )

    def limit(self, source: Gaussian) -> Gaussian:
        """The law this model generates after infinitely many points of a Gaussian source."""
        noise = self.noise.build()
        sampler = OneStep(noise=noise, start=population_start(source, noise, self.start))
        return sampler.propagate(population_linear(source, noise, ridge=self.ridge))

    def judge(self, oracle: Generated) -> Generated:
        """The oracle as this model's criteria see it: unchanged."""
        return oracle


class LinearOneStepPublished(Table):
    """The same model through the arithmetic of the published code, each quirk a switch."""

    kind: Literal["linear_one_step_published"]
    noise: OrnsteinUhlenbeckNoise = OrnsteinUhlenbeckNoise()
    transpose: bool = True
    float32_bandwidth: bool = True
    determinant_cutoff: bool = True

    @property
    def arithmetic(self) -> PublishedArithmetic:
        """The switches, as the arithmetic takes them."""
        return PublishedArithmetic(
            transpose=self.transpose,
            float32_bandwidth=self.float32_bandwidth,
            determinant_cutoff=self.determinant_cutoff,
        )

    def fit(self, training: Vectors, *, generator: torch.Generator) -> Generated:
        """Fit to training points; the criteria follow the published code."""
        return self.arithmetic.fit(training, self.noise.build(), generator=generator)

    def limit(self, source: Gaussian) -> Gaussian:
        """As for `LinearOneStep` with its scalar start."""
        plain = LinearOneStep(kind="linear_one_step", noise=self.noise, start="scalar")
        return plain.limit(source)

    def judge(self, oracle: Generated) -> Generated:
        """A Gaussian oracle, judged by the published arithmetic too."""
        return self.arithmetic.judge(oracle.law) if isinstance(oracle.law, Gaussian) else oracle


class FromPython(OfFiles):
    """A model made by a function of the user's own, named as module:function."""

    target: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]

    @property
    def content_name(self) -> str:
        return self.target

    def content(self) -> str:
        """The sha256 of the module's file, once the function in it was found.

        Raises:
            ConfigError: there is no such file or function, or the file does not run.
        """
        try:
            _resolve(self.target)
        except GenonsetError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{self.target}: importing it failed with {type(error).__name__}: {error}."
            ) from error
        return hashlib.sha256(_module_path(self.target).read_bytes()).hexdigest()


class PythonModel(FromPython):
    """Your own: `target` names fit(training, *, generator) -> sample(n, generator)."""

    kind: Literal["python"]

    def fit(self, training: Vectors, *, generator: torch.Generator) -> Generated:
        """Fit by the named function; what it samples is checked when it is drawn."""
        sample = _resolve(self.target)(training, generator=generator)
        if not callable(sample):
            raise ConfigError(
                f"{self.target} returned {type(sample).__name__}; it must return a function "
                "sample(n, generator) that gives a tensor of n generated points."
            )

        def draw(n: int, noise: torch.Generator) -> Vectors:
            return check_generated(sample(n, noise), n, training)

        return Generated(draw=draw)

    def limit(self, source: Gaussian) -> None:
        """Unknown."""

    def judge(self, oracle: Generated) -> Generated:
        """The oracle, unchanged."""
        return oracle


class SamplerTable(Table):
    """How a model of every noise level generates: a sampler, its steps and their grid."""

    kind: Literal["one_step", "ddpm", "ddim", "euler", "heun", "euler_maruyama"] = "ddim"
    n_steps: Count = 50
    grid: Grid = "quadratic"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _fits(self):
        if self.eta > 0 and self.kind != "ddim":
            raise ValueError(f"eta = {self.eta} is an option of kind = 'ddim', not {self.kind!r}")
        return self

    def build(self, noise: NoiseProcess, start: Gaussian | None = None) -> Sampler:
        """The sampler, from its start, or else from the noise's own law."""
        if self.kind == "one_step":
            return OneStep(noise, start=start)
        steps: dict[str, Any] = {"n_steps": self.n_steps, "grid": self.grid, "start": start}
        if self.kind == "ddim":
            return DDIM(noise, eta=self.eta, **steps)
        return STEPWISE[self.kind](noise, **steps)


STEPWISE = {"ddpm": DDPM, "euler": Euler, "heun": Heun, "euler_maruyama": EulerMaruyama}


class StepwiseModel(Table):
    """What models of every noise level but networks have in common.

    The sampler starts at N(0, I) in the scale of the noise (`prior`), or at the mean and the
    `scalar` or `estimated` covariance that the training points, or the true law, have there.
    """

    noise: AnyNoise = OrnsteinUhlenbeckNoise()
    start: Literal["prior", "scalar", "estimated"] = "estimated"
    sampler: SamplerTable = SamplerTable()

    def generate(self, denoiser: Denoiser, start: Gaussian | None) -> Generated:
        """Samples of a denoiser, and their law where it is affine."""
        sampler = self.sampler.build(self.noise.build(), start)

        def draw(n: int, generator: torch.Generator) -> Vectors:
            return flatten(sampler.sample(denoiser, n, generator=generator))

        return Generated(draw=draw, law=sampler.propagate(denoiser) if denoiser.affine else None)

    def start_of(self, training: Vectors) -> Gaussian | None:
        """Where sampling starts, as far as the training points tell."""
        if self.start == "prior":
            return None
        return estimated_start(training, training[:0], self.noise.build(), self.start)

    def limit(self, source: Gaussian) -> None:
        """Not in closed form."""

    def judge(self, oracle: Generated) -> Generated:
        """The oracle, unchanged."""
        return oracle


class ExactModel(StepwiseModel):
    """The exact denoiser of the training points, or of the true law (law = 'source')."""

    kind: Literal["exact"]
    law: Literal["training", "source"] = "training"

    @property
    def gaussian_law(self) -> bool:
        """Whether a Gaussian source makes its law a Gaussian."""
        return self.law == "source"

    def fit(self, training: Vectors, *, generator: torch.Generator) -> Generated:
        """The memorizer as a diffusion model."""
        denoiser = ExactDenoiser(Empirical(training), self.noise.build())
        return self.generate(denoiser, self.start_of(training))

    def ideal(self, source: Gaussian | GaussianMixture) -> Generated:
        """The oracle as a diffusion model."""
        noise, start = self.noise.build(), None
        if self.start != "prior":
            equal = Gaussian(source.mean, source.covariance)
            start = population_start(equal, noise, self.start)
        return self.generate(ExactDenoiser(source, noise), start)


class KernelModel(StepwiseModel):
    """Kernel ridge regression of x_0 on x_t at every noise level."""

    kind: Literal["kernel"]
    kernel: Literal["gaussian", "linear"] = "gaussian"
    bandwidth: Positive = 1.0
    ridge: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    n_noise_draws: Count = 1
    n_features: Count | None = None

    @model_validator(mode="after")
    def _fits(self):
        if self.ridge == 0 and self.kernel == "gaussian":
            raise ValueError("a gaussian kernel needs ridge > 0; only the linear one takes 0")
        return self

    @property
    def gaussian_law(self) -> bool:
        """Whether its law is a Gaussian."""
        return self.kernel == "linear"

    def fit(self, training: Vectors, *, generator: torch.Generator) -> Generated:
        """Fit at every noise level that the sampler asks for."""
        denoiser = KernelDenoiser(
            training,
            self.noise.build(),
            bandwidth=math.inf if self.kernel == "linear" else self.bandwidth,
            ridge=self.ridge,
            n_noise_draws=self.n_noise_draws,
            n_features=self.n_features,
            generator=generator,
        )
        return self.generate(denoiser, self.start_of(training))


class NetworkModel(Table, ABC):
    """A network trained by score matching: what all of them have in common.

    `stop_once_memorized` ends a cell that measures tau_mem as soon as its interval is known;
    `n_steps` then says where.
    """

    noise: AnyNoise = OrnsteinUhlenbeckNoise()
    steps: Count | None = None
    epochs: Count | None = None
    batch: Count | Literal["full"] = "full"
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Precision = "float32"
    stop_once_memorized: bool = False
    sampler: SamplerTable = SamplerTable()

    @model_validator(mode="after")
    def _one_budget(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                "give a budget, steps (gradient steps, the same for every n) or epochs (more "
                f"steps at larger n), not both; got steps = {self.steps}, epochs = {self.epochs}"
            )
        return self

    @property
    def recipe(self) -> Recipe:
        """How it is trained, as `train` takes it."""
        return Recipe(
            steps=self.steps,
            epochs=self.epochs,
            batch_size=None if self.batch == "full" else self.batch,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            ema=self.ema,
            precision=self.precision,
        )

    @property
    @abstractmethod
    def answer(self) -> Target:
        """What the network predicts."""

    @abstractmethod
    def build(self, shape: tuple[int, ...]) -> nn.Module:
        """A fresh network for points of a shape, from the global generator."""

    def takes_images(self, shape: tuple[int, ...]) -> bool:
        """Whether it is given finite data of this shape as they came, not as vectors."""
        return False

    def shaped(self, rows: Samples) -> Samples:
        """Data points as the network takes them."""
        return rows

    def fit(
        self,
        training: Samples,
        *,
        generator: torch.Generator,
        initialization: torch.Generator | None = None,
        monitor: Callable[[Sampler], Monitor | None] = lambda sampler: None,
        checkpoint: Path | None = None,
    ) -> Generated:
        """Train on those points that are `trained`; the facts say what it took.

        The weights start from the first number of `initialization`, or else of `generator`, whose
        first number seeds what the network itself draws in training, such as its dropout.
        """
        training, noise = self.trained(training), self.noise.build()
        shape = tuple(training.shape[1:])
        seed = int(torch.randint(2**62, (), generator=generator))
        initial = seed
        if initialization is not None:
            initial = int(torch.randint(2**62, (), generator=initialization))
        sampler = self.sampler.build(noise)
        watch = monitor(sampler)
        with seeds.global_draws(initial):
            denoiser = NeuralDenoiser(self.build(shape), noise, self.answer)
            if initial != seed:
                torch.manual_seed(seed)
            done = train(
                denoiser,
                training,
                self.recipe,
                generator=generator,
                monitor=watch,
                until=(lambda m: m.tau_mem.high is not None) if self.stop_once_memorized else None,
                checkpoint=checkpoint,
                checkpoint_seconds=None,
            )

        def draw(n: int, g: torch.Generator) -> Samples:
            with seeds.global_draws(g.initial_seed()):
                return sampler.sample(done.denoiser, n, generator=g)

        facts = {
            "n_parameters": float(done.n_parameters),
            "n_steps": float(done.steps),
            "training_loss": done.loss,
        }
        if watch is not None:
            facts |= watch.tau_gen.facts("tau_gen") | watch.tau_mem.facts("tau_mem")
        return self.judge(Generated(draw=draw, facts=facts))

    def trained(self, training: Samples) -> Samples:
        """The points that are trained on: all of them."""
        return training

    def limit(self, source: Gaussian) -> None:
        """Unknown."""

    def judge(self, oracle: Generated) -> Generated:
        """The oracle, unchanged."""
        return oracle


class ShippedNetwork(NetworkModel):
    """A network of this package; `target` is what it predicts."""

    target: Target = "noise"
    width: Annotated[int, Field(ge=2, multiple_of=2)]

    @property
    def answer(self) -> Target:
        return self.target


class OwnNetwork(FromPython, NetworkModel):
    """Your own: `target` names build(shape) -> nn.Module with forward(x, t)."""

    kind: Literal["network"]
    predicts: Target = "noise"

    @property
    def answer(self) -> Target:
        return self.predicts

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        network = _resolve(self.target)(shape)
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"{self.target} returned {type(network).__name__}; it must return a "
                "torch.nn.Module with forward(x, t) for points x of the shape it is given."
            )
        return network

    def takes_images(self, shape: tuple[int, ...]) -> bool:
        return len(shape) > 1

    def shaped(self, rows: Samples) -> Samples:
        """Vectors as they are, images as channels x height x width."""
        return rows[:, None] if rows.ndim == 3 else rows


class MLPModel(ShippedNetwork):
    """A residual perceptron on vectors, W (2d + 13) + d + 6W² parameters."""

    kind: Literal["mlp"]
    width: Annotated[int, Field(ge=2, multiple_of=2)] = 128

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        return ResidualMLP(math.prod(shape), self.width)


class ImageModel(ShippedNetwork):
    """The U-Net with its options, whatever its criteria."""

    width: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    attention: bool = True
    channels: Count = 1

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        return UNet(shape[0], self.width, attention=self.attention)

    def takes_images(self, shape: tuple[int, ...]) -> bool:
        return True

    def shaped(self, rows: Samples) -> Samples:
        """Images as they are; vectors as square images.

        Raises:
            ConfigError: vectors that are no square images of this many channels, or images
                below 8x8.
        """
        if rows.ndim == 3:
            rows = rows[:, None]
        elif rows.ndim == 2:
            side = math.isqrt(rows.shape[1] // self.channels)
            if self.channels * side**2 != rows.shape[1]:
                raise ConfigError(
                    f"{rows.shape[1]} coordinates are no square image of {self.channels} "
                    "channels. A unet takes images: use kind = 'mlp', or a dim of channels x "
                    "side x side."
                )
            rows = rows.reshape(len(rows), self.channels, side, side)
        if min(rows.shape[2:]) < SMALLEST:
            raise ConfigError(
                f"A unet takes images of at least {SMALLEST}x{SMALLEST} pixels, these have "
                f"{rows.shape[2]}x{rows.shape[3]}. Use kind = 'mlp'."
            )
        return rows


class UNetModel(ImageModel):
    """The paper's U-Net on images; from vectors, square images of `channels`."""

    kind: Literal["unet"]


class UNetPublished(ImageModel):
    """The same network through the arithmetic of the published code, each quirk a switch."""

    kind: Literal["unet_published"]
    set_aside: bool = True
    clip: bool = True
    mixed_units: bool = True

    @property
    def arithmetic(self) -> PublishedNetworkArithmetic:
        """The switches, as the arithmetic takes them."""
        return PublishedNetworkArithmetic(
            set_aside=self.set_aside, clip=self.clip, mixed_units=self.mixed_units
        )

    def trained(self, training: Samples) -> Samples:
        """The points that are not set aside."""
        return self.arithmetic.trained(training)

    def judge(self, oracle: Generated) -> Generated:
        """A pole, judged by the published arithmetic too."""
        return self.arithmetic.judge(oracle)


def _resolve(target: str) -> Callable[..., Any]:
    """Import module:function from the current folder, and from nowhere else."""
    module_name, function_name = target.split(":")
    path = _module_path(target)
    if not path.is_file():
        raise ConfigError(
            f"{target}: there is no file {path.name} in {path.parent}. "
            "A python model is looked up in the current folder only."
        )
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{target}: {path.name} has no function {function_name!r}.")
    return function


def _module_path(target: str) -> Path:
    return Path.cwd().joinpath(*target.split(":")[0].split(".")).with_suffix(".py")


def check_generated(samples: Any, n: int, training: Vectors) -> Vectors:
    """Samples of a user's model as rows like the training set's.

    Raises:
        DataError: not a tensor, too few samples, another shape, or values that are not finite.
    """
    samples = torch.as_tensor(samples).detach()
    if samples.ndim == 0 or samples.shape[0] != n or samples[0].numel() != training[0].numel():
        raise DataError(
            f"The model was asked for {n} samples of {training[0].numel()} coordinates and "
            f"returned shape {tuple(samples.shape)}."
        )
    return require_finite("generated", flatten(samples))


AnyModel = Annotated[
    LinearOneStep
    | LinearOneStepPublished
    | ExactModel
    | KernelModel
    | PythonModel
    | OwnNetwork
    | MLPModel
    | UNetModel
    | UNetPublished,
    Field(discriminator="kind"),
]
LINEAR = ("linear_one_step", "linear_one_step_published")
Draw = Literal["data", "initialization", "training_noise", "sampling", "evaluation"]
DRAWS: tuple[Draw, ...] = get_args(Draw)
Bandwidth = Literal["paper", "shared", "scott", "cross_validated"] | Positive


# -- cells -------------------------------------------------------------------------------------


class Measurement(Table):
    """What one cell does, whatever its n and replicate.

    `original = "expected"` evaluates the kernel criteria against the exact expectation over all
    original sets of `n_original` points, (A5), instead of one drawn set: the fast path.
    `kept_for` keeps a source of randomness for so many consecutive replicates before it is drawn
    again: a nested design, from which `Results.components` reads each source's own variance.
    `edition` is the schema number its numbers are of; a run folder states it.
    """

    seed: int = 0
    criteria: tuple[str, ...] = Field(min_length=1)
    n_original: Annotated[int, Field(ge=2)] | None = None
    original: Literal["drawn", "expected"] = "drawn"
    n_generated: Annotated[int, Field(ge=2)] | None = None
    bandwidth: Bandwidth = "paper"
    allow_mixed_units: bool = False
    kept_for: dict[Draw, Count] = {}
    edition: Annotated[int, Field(ge=1, le=SCHEMA)] = SCHEMA
    source: AnySource
    model: AnyModel

    @model_validator(mode="after")
    def _known_criteria(self):
        known = [*GROUPS, *CRITERIA]
        unknown = [c for c in self.criteria if c not in known]
        if unknown:
            raise ValueError(f"unknown criteria {unknown}; known are {', '.join(known)}")
        exact = [c for c in self.measured if CRITERIA[c].needs_gaussian]
        affine = self.model.kind in LINEAR or getattr(self.model, "gaussian_law", False)
        if exact and not (self.source.kind == "gaussian" and affine):
            raise ValueError(
                f"{', '.join(exact)} compare closed-form Gaussian laws: they need a gaussian "
                "source and a linear model; use bures_wasserstein or sliced_wasserstein instead"
            )
        if self.original == "expected" and not (
            self.source.kind == "gaussian"
            and self.model.kind == "linear_one_step"
            and self.bandwidth not in ("shared", "cross_validated")
        ):
            raise ValueError(
                "original = 'expected' takes the exact expectation over the original set: it "
                "needs a gaussian source, the model linear_one_step and a bandwidth that is "
                "'paper', 'scott' or a number"
            )
        ideal = isinstance(self.model, ExactModel) and self.model.law == "source"
        if ideal and self.source.kind not in ("gaussian", "gaussian_mixture"):
            raise ValueError(
                "law = 'source' needs a true law with an exact denoiser, and "
                f"{self.source.kind} has none; use a gaussian or gaussian_mixture source, or "
                "law = 'training'"
            )
        exact_facts = {*GROUPS["collapse"], *GROUPS["late_times"]} & set(self.measured)
        if exact_facts and self.model.kind == "python":
            raise ValueError(
                "the criteria of the groups collapse and late_times need a model with a noise "
                "table"
            )
        if self.model.kind == "linear_one_step_published" and self.bandwidth != "paper":
            raise ValueError("the published arithmetic knows the bandwidth rule 'paper' only")
        return self

    @property
    def measured(self) -> tuple[str, ...]:
        """The criteria to evaluate, groups unfolded, in a fixed order."""
        wanted = {name for c in self.criteria for name in GROUPS.get(c, (c,))}
        return tuple(c for c in CRITERIA if c in wanted)


class Cell(Measurement):
    """One point of a sweep: everything its numbers depend on."""

    n: Annotated[int, Field(ge=2)]
    replicate: Annotated[int, Field(ge=0)]

    @property
    def key(self) -> str:
        """Hash of the canonical JSON: the name of this cell in a store."""
        usual = {"edition"} if self.kept_for else {"edition", "kept_for"}
        return _digest([self.edition, self.model_dump(mode="json", exclude=usual)])

    def turn(self, draw: Draw) -> int:
        """Which draw of one source of randomness this cell has: its replicate, unless kept."""
        return self.replicate // self.kept_for.get(draw, 1)

    @property
    def family(self) -> str | None:
        """Equal for cells that differ in their network's budget alone: those with a larger one
        continue the training of those with a smaller. None without a network.
        """
        if not isinstance(self.model, NetworkModel):
            return None
        options = self.model_dump(mode="json", exclude={"edition"})
        unit = self.model.recipe.budget
        options["model"][unit] = "any"
        return _digest([self.edition, options])

    @property
    def common_key(self) -> str:
        """Equal for cells that share the original set and its kernel width."""
        shared = {"seed", "replicate", "source", "n_original", "n_generated", "bandwidth"}
        shared |= {"kept_for"} if self.kept_for else set()
        return _digest([self.edition, self.model_dump(mode="json", include=shared)])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


# -- sweeps ------------------------------------------------------------------------------------


class Adaptive(Table):
    """`[n] kind = "adaptive"`: sizes chosen from the results before them, see `adaptive`.

    Each setting runs batches of cells between `low` and `high` until n* of `criterion` (the
    headline by default) is known to the relative half-width `precision` of its 95 % interval, or
    `budget` cells are spent. A batch is chosen as a whole, whatever the number of workers.
    """

    kind: Literal["adaptive"]
    low: Annotated[int, Field(ge=2)]
    high: Annotated[int, Field(ge=3)]
    precision: Positive = 0.2
    criterion: str | None = None
    budget: Count = 400
    batch: Count = 8

    @model_validator(mode="after")
    def _fits(self):
        if self.high <= self.low:
            raise ValueError(f"high must exceed low, got low {self.low} and high {self.high}")
        if self.budget < 2 * self.batch:
            raise ValueError(
                f"a budget of {self.budget} cells allows no choice after the first batch of "
                f"{self.batch}; give at least {2 * self.batch}"
            )
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that may be chosen, sixteen to a factor two, both ends included."""
        steps = math.ceil(16 * math.log2(self.high / self.low)) or 1
        ratio = self.high / self.low
        return tuple(sorted({round(self.low * ratio ** (k / steps)) for k in range(steps + 1)}))


class Sweep(Measurement):
    """A grid of cells: variants x axes x n x replicates, or with sizes chosen as they come.

    `axes` maps dotted option paths to lists of values; `variants` maps names to tables of dotted
    option paths, each a model or source to compare on the same data. `replicates_at` maps sizes to
    their own number of replicates, for more of them where they tell most. `contents`, which a run
    fills in, maps models of the user's own, and data that the table of the source does not name,
    to the sha256 of their files.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    replicates: Count
    n: tuple[Annotated[int, Field(ge=2)], ...] = Field(min_length=1)
    replicates_at: dict[int, Count] = {}
    axes: dict[str, tuple[Any, ...]] = {}
    variants: dict[str, dict[str, Any]] = {}
    contents: dict[str, str] = {}
    headline: str | None = None
    design: Adaptive | None = None

    @model_validator(mode="before")
    @classmethod
    def _table_of_sizes(cls, options: Any) -> Any:
        """`[n]` is the design; its sizes and budget take the places of n and replicates."""
        if not isinstance(options, dict):
            return options
        if options.get("design") is not None:
            raise ValueError('the design of an adaptive sweep is its table [n], kind = "adaptive"')
        if not isinstance(options.get("n"), dict):
            return options
        design = Adaptive.model_validate(options["n"])
        given = [k for k in ("replicates", "replicates_at") if options.get(k)]
        if given:
            raise ValueError(
                f"{given[0]} is for sizes that are listed; an adaptive n has budget and batch"
            )
        return options | {"n": design.sizes, "replicates": design.budget, "design": design}

    @model_serializer(mode="wrap")
    def _with_table(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        options = handler(self)
        if design := options.pop("design", None):
            options["n"] = design
            options = {k: v for k, v in options.items() if not k.startswith("replicates")}
        return options

    @model_validator(mode="after")
    def _grid(self):
        if list(self.n) != sorted(set(self.n)):
            raise ValueError(f"n must increase without repeats, got {list(self.n)}")
        strange = sorted(set(self.replicates_at) - set(self.n))
        if strange:
            raise ValueError(f"replicates_at has sizes that n has not: {strange}")
        for path, values in self.axes.items():
            if not values:
                raise ValueError(f"axis {path!r} has no values")
        if self.headline is not None and self.headline not in self.measured:
            raise ValueError(
                f"headline {self.headline!r} is not among the criteria measured: "
                f"{', '.join(self.measured)}"
            )
        if self.design is not None and self.design.criterion is not None:
            usable = [c for c in self.measured if CRITERIA[c].axis in ("memorization", "quality")]
            if self.design.criterion not in usable:
                raise ValueError(
                    f"n.criterion {self.design.criterion!r} has no onset here; choose from "
                    f"{', '.join(usable)}"
                )
        return self

    @model_validator(mode="after")
    def _nested(self):
        strides = sorted({self.kept_for.get(draw, 1) for draw in DRAWS}, reverse=True)
        outer = self.replicates
        for stride in strides if self.kept_for else ():
            if (stride < outer and outer % stride) or self.replicates_at:
                raise ValueError(
                    f"kept_for must nest: {outer} is no multiple of {stride}, or replicates_at is "
                    "given. Let each number divide the next larger one and the replicates, which "
                    "are the same at all n, as in kept_for = { data = 4, training_noise = 2 } "
                    "with 40 replicates"
                )
            outer = min(outer, stride)
        return self

    def levels(self) -> list[tuple[tuple[Draw, ...], int]]:
        """The sources of randomness drawn again together, outermost first, with how many times.

        Sources that are kept for all replicates are left out. For 40 replicates and
        kept_for = { data = 4 } there are 10 data sets, each with 4 draws of all else.
        """
        strides = {draw: self.kept_for.get(draw, 1) for draw in DRAWS}
        found, outer = [], self.replicates
        for stride in sorted(set(strides.values()), reverse=True):
            if stride < self.replicates:
                found.append((tuple(d for d in DRAWS if strides[d] == stride), outer // stride))
                outer = stride
        return found

    @property
    def reads_onset(self) -> bool:
        """Whether its headline is about samples, and its replicates are independent."""
        return CRITERIA[self.headline_criterion].axis != "training" and not self.kept_for

    @classmethod
    def from_toml(cls, path: str | Path) -> "Sweep":
        """Read and check a spec.

        Relative data paths in it are taken from the folder of the spec.

        Raises:
            ConfigError: a missing or unreadable file, bad TOML, or any unknown, ill-typed or
                inconsistent option: all of them at once, each with its path in the file.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError(
                f"{path} is not a text file; a spec is a TOML file. Data go into its [source] "
                "table, as path."
            ) from None
        except OSError as error:
            raise ConfigError(f"Cannot read the spec {path}: {error}.") from None
        try:
            options = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}.") from None
        _place_data(options, path.parent)
        return cls.from_options(options, origin=str(path))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, origin: str = "the spec") -> "Sweep":
        """Check a nested mapping of options, as TOML gives it; `origin` names it in messages."""
        try:
            sweep = cls.model_validate(options)
        except ValidationError as error:
            raise ConfigError(_explain(error, cls, origin)) from None
        for labels in sweep.settings():
            sweep.measurement(labels)
        return sweep

    @property
    def headline_criterion(self) -> str:
        """The criterion whose onset is quoted first: `headline`, or the first measured of
        delta_held_out, train_bias, any other memorization criterion, any other."""
        if self.headline:
            return self.headline
        memory = [c for c in self.measured if CRITERIA[c].axis == "memorization"]
        preferred = [c for c in ("delta_held_out", "train_bias") if c in memory]
        return [*preferred, *memory, *self.measured][0]

    def settings(self) -> list[dict[str, Any]]:
        """Every combination of variant and axis values, as column name -> value."""
        names = [*(["variant"] if self.variants else []), *self.axes]
        values = [*([tuple(self.variants)] if self.variants else []), *self.axes.values()]
        return [
            dict(zip(names, combination, strict=True))
            for combination in itertools.product(*values)
        ]

    def measurement(self, setting: Mapping[str, Any]) -> Measurement:
        """This sweep's options at one combination of variant and axis values."""
        options = self.model_dump(mode="json", include=set(Measurement.model_fields))
        _merge(options, self.variants.get(setting.get("variant", ""), {}))
        for path, value in setting.items():
            if path != "variant":
                _assign(options, path, value)
        try:
            found = Measurement.model_validate(options)
        except ValidationError as error:
            raise ConfigError(_explain(error, Measurement, f"the spec at {setting}")) from None
        known = {
            part: table.model_copy(update={"sha256": self.contents[table.content_name]})
            for part, table in (("source", found.source), ("model", found.model))
            if isinstance(table, OfFiles) and table.content_name in self.contents
        }
        return found.model_copy(update=known) if known else found

    @property
    def resolved(self) -> bool:
        """Whether all that `experiment.resolve` fills in, sizes and contents, is known."""
        found = [self.measurement(setting) for setting in self.settings()]
        tables = [table for m in found for table in (m.source, m.model)]
        return all(m.n_original and m.n_generated for m in found) and all(
            table.sha256 for table in tables if isinstance(table, OfFiles)
        )

    def cells(self) -> Iterator[tuple[dict[str, Any], Cell]]:
        """All cells of a grid with their variant and axis values, replicate by replicate."""
        settings = [(s, self.measurement(s).model_dump()) for s in self.settings()]
        for replicate in range(self.most_replicates):
            for setting, options in settings:
                for n in self.n:
                    if replicate < self.replicates_of(n):
                        yield setting, Cell(**options, n=n, replicate=replicate)

    def replicates_of(self, n: int) -> int:
        """How many replicates a size has."""
        return self.replicates_at.get(n, self.replicates)

    @property
    def most_replicates(self) -> int:
        """The number of replicates of the size that has most."""
        return max(map(self.replicates_of, self.n))

    @property
    def n_cells(self) -> int:
        """How many cells the grid has, or an adaptive sweep may have."""
        if self.design is not None:
            return self.design.budget * len(self.settings())
        return sum(map(self.replicates_of, self.n)) * len(self.settings())

    def to_toml(self) -> str:
        """The spec as TOML, every option stated; reading it back gives an equal sweep."""
        return _toml(self.model_dump(mode="json", exclude_none=True))


def _merge(options: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set the dotted paths and nested tables of a variant; the kinds of outer tables first."""
    for path in sorted(changes, key=lambda p: (p.split(".")[-1] != "kind", p.count("."))):
        place = options
        for name in path.split("."):
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict) and isinstance(changes[path], dict):
            _merge(options, {f"{path}.{name}": value for name, value in changes[path].items()})
        else:
            _assign(options, path, changes[path])


def _assign(options: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path; a new `kind` of a table drops the options of the old one but its noise,
    and any change what is known of its files.
    """
    *tables, last = path.split(".")
    for table in tables:
        options = options.setdefault(table, {})
        if not isinstance(options, dict):
            raise ConfigError(f"axis {path!r}: {table!r} is not a table of options.")
    if last == "kind" and options.get("kind") != value:
        keeps = any(value in _literal(t) and "noise" in t.model_fields for t in _KINDS)
        kept = {k: v for k, v in options.items() if k == "noise" and keeps}
        options.clear()
        options.update(kept)
    if last != "sha256":
        options.pop("sha256", None)
    options[last] = value


def label(setting: Mapping[str, Any]) -> str:
    """A combination of variant and axis values in words; empty for a plain sweep."""
    return ", ".join(
        str(value) if name == "variant" else f"{name.split('.')[-1]} = {_words(value)}"
        for name, value in setting.items()
    )


def _words(value: Any) -> str:
    """An option; of a table its values, the kind first."""
    if not isinstance(value, Mapping):
        return str(value)
    numbers = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in value.items()}
    rest = [f"{name} {given}" for name, given in numbers.items() if name != "kind"]
    return ", ".join([str(value.get("kind", "")), *rest]).strip(", ")


def _place_data(options: dict[str, Any], folder: Path) -> None:
    """Data files that a spec names are looked for beside it: of the source, variants and axes."""
    variants = options.get("variants")
    changes = [options.get("axes"), *(variants.values() if isinstance(variants, dict) else ())]
    tables = [(options.get("source"), "path"), *((one, "source.path") for one in changes)]
    for table, key in tables:
        named = table.get(key) if isinstance(table, dict) else None
        if isinstance(named, str):
            table[key] = str((folder / named).resolve())
        elif isinstance(named, list):
            table[key] = [str((folder / str(one)).resolve()) for one in named]


def _explain(error: ValidationError, model: type[Table], origin: str) -> str:
    """All errors at once: path in the file, value seen, what is accepted."""
    lines = []
    for problem in error.errors():
        path = [str(p) for p in problem["loc"]]
        where = ".".join(_in_file(model, path)) or "the spec as a whole"
        message = problem["msg"].removeprefix("Value error, ")
        match problem["type"]:
            case "extra_forbidden":
                allowed = _allowed(model, path[:-1])
                near = difflib.get_close_matches(path[-1], allowed, n=1)
                guess = f", did you mean {near[0]}?" if near else "."
                message = f"unknown option{guess} Allowed here: {', '.join(allowed)}"
            case "missing":
                message = "this option is required"
            case "union_tag_invalid":
                context = problem.get("ctx", {})
                message = f"unknown kind {context['tag']!r}; known are {context['expected_tags']}"
            case "union_tag_not_found":
                message = "the option kind is required here"
            case "tuple_type":
                message = f"a list is needed, such as [8, 16, 32], got {problem['input']!r}"
            case "too_short":
                message = "at least one value is needed"
            case "string_pattern_mismatch" if path[-1] == "target":
                message = f"module:function is needed, got {problem['input']!r}"
            case "value_error":
                pass
            case _:
                message += f", got {problem['input']!r}"
        lines.append(f"  {where}: {message}")
    return f"{origin} was refused:\n" + "\n".join(dict.fromkeys(lines))


def _in_file(model: type[Table], path: list[str]) -> list[str]:
    """A path of pydantic locations without the union members that it names."""
    found = []
    for i, step in enumerate(path):
        options = _allowed(model, path[:i])
        if i + 1 == len(path) or step in options or step.isdigit() or not options:
            found.append(step)
    return found


def _allowed(model: type[Table], path: list[str]) -> list[str]:
    """Option names of the table at a path of pydantic locations (which name union members)."""
    for step in path:
        field = model.model_fields.get(step)
        if field is not None:
            tables = _tables(field.annotation)
        else:
            tables = [
                t
                for t in _KINDS
                if step in (t.__name__, t.model_fields["kind"].default) or step in _literal(t)
            ]
        if not tables:
            return []
        model = tables[0]
    return sorted(model.model_fields)


def _literal(table: type[Table]) -> tuple[str, ...]:
    return getattr(table.model_fields["kind"].annotation, "__args__", ())


def _tables(annotation: Any) -> list[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return [annotation]
    return [t for part in getattr(annotation, "__args__", ()) for t in _tables(part)]


NOISES: list[type[Table]] = [
    OrnsteinUhlenbeckNoise,
    VariancePreservingNoise,
    DiscreteVariancePreservingNoise,
    CosineNoise,
    VarianceExplodingNoise,
    RectifiedNoise,
]
SOURCES: list[type[Table]] = [
    GaussianSource,
    MixtureSource,
    TwoMoonsSource,
    CircleSource,
    DigitsSource,
    GlyphsSource,
    ArraySource,
    ImagesSource,
]
MODELS: list[type[Table]] = [
    LinearOneStep,
    LinearOneStepPublished,
    ExactModel,
    KernelModel,
    PythonModel,
    OwnNetwork,
    MLPModel,
    UNetModel,
    UNetPublished,
]
_KINDS: list[type[Table]] = [*NOISES, PowerLaw, LowRank, *SOURCES, *MODELS]


# -- what ships with the package ---------------------------------------------------------------


def shipped(name: str) -> Sweep:
    """A spec that comes with the package.

    Raises:
        ConfigError: there is none of that name; the message lists them.
    """
    texts = _experiments()
    if name not in texts:
        near = difflib.get_close_matches(name, texts, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"There is no experiment {name!r}.{guess} There are {', '.join(texts)}, linear for "
            "linear-d16 and linear-d100 together, and reviewers for all behind docs/reviewers.md."
        )
    return Sweep.from_options(tomllib.loads(texts[name]), origin=name)


def _experiments() -> dict[str, str]:
    """The specs that come with the package, by name."""
    folder = resources.files("genonset") / "experiments"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): f.read_text(encoding="utf-8") for f in files}


def _first_sentence(text: str) -> str:
    """Of the comment that opens a spec."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    return textwrap.shorten(comment.partition(". ")[0].removesuffix("."), 100, placeholder=" ...")


def reproduction(
    name: str,
    *,
    variant: str = "both",
    n: tuple[int, ...] | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    quick: bool = False,
) -> Sweep:
    """A shipped experiment, cut to a variant, sizes, replicates and a seed.

    `quick` takes a quarter of the replicates, at least 3; of a nested design whole outer draws.

    Raises:
        ConfigError: an unknown name or variant, or sizes that a spec refuses.
    """
    sweep = shipped(name)
    options = sweep.model_dump(mode="json", exclude_none=True)
    if variant != "both":
        if variant not in sweep.variants:
            raise ConfigError(
                f"Unknown variant {variant!r}; use {', '.join([*sweep.variants, 'both'])}."
            )
        options["variants"] = {variant: sweep.variants[variant]}
    if quick and replicates is None:
        whole = max(s for s in (1, *sweep.kept_for.values()) if s < max(sweep.replicates, 2))
        replicates = whole * max(3, math.ceil(sweep.replicates / (4 * whole)))
        replicates = min(replicates, sweep.replicates)
    changes = {"n": n, "replicates": replicates, "seed": seed}
    options |= {k: v for k, v in changes.items() if v is not None}
    more = {} if replicates else sweep.replicates_at
    options["replicates_at"] = {k: v for k, v in more.items() if k in options["n"]}
    return Sweep.from_options(options, origin=f"reproduce {name}")


def catalogue() -> dict[str, dict[str, str]]:
    """Every name a spec may use, and the specs that ship, with one line on each."""

    def tables(*kinds: type[Table]) -> dict[str, str]:
        return {_literal(t)[0]: (t.__doc__ or "").splitlines()[0] for t in kinds}

    return {
        "sources": tables(*SOURCES),
        "noise": tables(*NOISES),
        "models": tables(*MODELS),
        "samplers": {
            name: (kind.__doc__ or "").splitlines()[0]
            for name, kind in {"one_step": OneStep, "ddim": DDIM, **STEPWISE}.items()
        },
        "criteria": {name: f"group: {', '.join(members)}" for name, members in GROUPS.items()}
        | {name: c.summary for name, c in CRITERIA.items()},
        "distances": {
            name: (getattr(distances, name).__doc__ or "").splitlines()[0]
            for name in [*distances.SYMMETRIC, *distances.ASYMMETRIC]
        },
        "experiments": {name: _first_sentence(text) for name, text in _experiments().items()},
    }


def _toml(options: Mapping[str, Any], prefix: str = "") -> str:
    """A nested mapping of plain values as TOML: JSON strings and arrays are valid TOML."""
    plain = {k: v for k, v in options.items() if not isinstance(v, dict)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in plain.items()]
    for name, table in options.items():
        if isinstance(table, dict):
            path = f"{prefix}{_key(name)}"
            lines += ["", f"[{path}]", _toml(table, f"{path}.").rstrip()]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return json.dumps(value, ensure_ascii=False)
