"""The tables of docs/audit.md: what each criterion finds, and what audits cost.

    python benchmarks/audit.py [criteria] [levels] [features] [times]
    python benchmarks/audit.py --memory-map [--training 1000000] [--held-out 5000]
        [--generated 500] [--dim 512] [--copies 50]

The second writes a training set to a temporary folder (1.9 GiB at these sizes), audits samples
against it in a process of its own, and prints the seconds and the peak of that process: of its
memory without mapped files (RssAnon), sampled, and of all that was resident (VmHWM), pages of the
file included, which the system takes back when it needs them.
"""

import argparse
import importlib.util
import io
import math
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import stats

import genonset
from genonset import datasets, peers, seeds

N_AUDITS, N, DIM, M = 100, 200, 64, 300


def gaussian(n, *names):
    return torch.randn(n, DIM, generator=seeds.generator(7, *names), dtype=torch.float64)


def copies(share):
    def case(training, fresh, replicate):
        k = round(share * M)
        chosen = torch.randint(N, (k,), generator=seeds.generator(6, "chosen", replicate))
        fresh[:k] = training[chosen] + 0.05 * gaussian(k, "jitter", replicate)
        return fresh

    return case


def fitted(training, fresh, replicate):
    centred = training - training.mean(0)
    mix = torch.randn(
        M, len(training), generator=seeds.generator(6, "mix", replicate), dtype=torch.float64
    )
    return training.mean(0) + mix @ centred / math.sqrt(len(training) - 1)


CASES = {
    "independent, perfect": lambda training, fresh, replicate: fresh,
    "independent, 0.7 times as wide": lambda training, fresh, replicate: 0.7 * fresh,
    "independent, 1.2 times as wide": lambda training, fresh, replicate: 1.2 * fresh,
    "Gaussian fitted to T": fitted,
    "2 % copies": copies(0.02),
    "5 % copies": copies(0.05),
    "10 % copies": copies(0.1),
    "10 % copies, 0.7 times as wide": lambda training, fresh, replicate: copies(0.1)(
        training, 0.7 * fresh, replicate
    ),
    "all copies": copies(1.0),
}


def alarms(verdict):
    """Which criteria would have reported copying at level 0.05."""
    found, evidence = verdict.peers, verdict.evidence
    authentic = round(found["authenticity"].value * M)
    nearer = round(found["dcr_share"].value * M)
    gap, control = (
        round(share * size)
        for share, size in (
            (verdict.copying.memorized_fraction, M),
            (verdict.copying.control_fraction, len(evidence.control)),
        )
    )
    return {
        "copying": verdict.copying.p_value,
        "train bias": verdict.train_bias.p_value,
        "gap ratio": peers.fisher(gap, M, control, len(evidence.control)),
        "C_T": found["c_t"].p_value,
        "authenticity, 1/2": stats.binom.cdf(authentic, M, 0.5),
        "authenticity, control": found["authenticity"].p_value,
        "DCR, binomial": stats.binom.sf(nearer - 1, M, 0.5),
        "kernel Δ": found["kernel_delta"].p_value,
    }


def criteria():
    print(f"Share of {N_AUDITS} audits with p <= 0.05; n = {N}, d = {DIM}, m = {M}\n")
    for number, (name, case) in enumerate(CASES.items()):
        verdicts = []
        for r in range(N_AUDITS):
            training, held_out, fresh = (
                gaussian(k, s, r) for k, s in ((N, "t"), (N, "h"), (M, "g"))
            )
            verdicts.append(genonset.audit(case(training, fresh, r), training, held_out))
        tables = [alarms(v) for v in verdicts]
        if number == 0:
            print("| samples |", " | ".join(tables[0]), "| verdicts |")
            print("|---|" + "---|" * (len(tables[0]) + 1))
        shares = [f"{np.mean([t[c] <= 0.05 for t in tables]):.2f}" for c in tables[0]]
        said = ", ".join(f"{k} {v}" for k, v in Counter(v.verdict for v in verdicts).most_common())
        print(f"| {name} |", " | ".join(shares), f"| {said} |", flush=True)


LEVELS = 20


def levels():
    """Every number of the page beside its level by chance, on the cases of `criteria`."""
    print(f"\nValue, and level by chance in brackets: means of {LEVELS} audits\n")
    for number, (name, case) in enumerate(CASES.items()):
        found = Counter()
        for r in range(LEVELS):
            training, held_out, fresh = (
                gaussian(k, s, r) for k, s in ((N, "t"), (N, "h"), (M, "g"))
            )
            verdict = genonset.audit(case(training, fresh, r), training, held_out)
            copied, bias = verdict.copying, verdict.train_bias
            found.update(
                {
                    ("gap ratio", 0): copied.memorized_fraction,
                    ("gap ratio", 1): copied.control_fraction,
                    ("nearer to T", 0): bias.share,
                    ("nearer to T", 1): bias.expected,
                }
            )
            for peer, one in verdict.peers.items():
                found.update({(peer, 0): one.value, (peer, 1): one.chance})
        names = list(dict.fromkeys(name for name, _ in found))
        if number == 0:
            print("| samples |", " | ".join(names), "|")
            print("|---|" + "---|" * len(names))
        pairs = ((found[n, 0] / LEVELS, found[n, 1] / LEVELS) for n in names)
        cells = (f"{value:.2f} ({chance:.2f})" for value, chance in pairs)
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def cropped(image):
    return np.asarray(Image.fromarray(image[1:-1, 1:-1]).resize(image.shape[::-1]))


CHANGES = {
    "none": lambda x: x,
    "noise, 5 %": lambda x: np.clip(
        x + np.random.default_rng(0).normal(0, 12.75, x.shape), 0, 255
    ).astype(np.uint8),
    "JPEG, quality 50": jpeg,
    "brightness, 0.8": lambda x: (0.8 * x).astype(np.uint8),
    "shifted by 1 pixel": lambda x: np.roll(x, 1, axis=1),
    "flipped": lambda x: x[:, ::-1].copy(),
    "cropped by 1 pixel": cropped,
    "contrast, 0.7": lambda x: (0.7 * x + 38).astype(np.uint8),
    "flipped, brightness 0.8": lambda x: (0.8 * x[:, ::-1]).astype(np.uint8),
    "shifted, JPEG 50": lambda x: jpeg(np.roll(x, 1, axis=1)),
    "cropped, flipped, noise 5 %": lambda x: CHANGES["noise, 5 %"](cropped(x)[:, ::-1]),
}


def spectrum(points):
    """Moduli of the Fourier coefficients: blind to cyclic shifts."""
    return torch.fft.rfft2(points).abs().flatten(1)


def features():
    """Share of 60 changed copies among 300 samples that each feature space flags."""
    for source in (datasets.digits, datasets.glyphs):
        _features(source())


def _features(source):
    sys.modules["audit_features"] = sys.modules[__name__]
    spaces = ["pixels", "pca:20", "normalized", "lowpass", "audit_features:spectrum"]
    if importlib.util.find_spec("efficientnet_lite_pytorch"):
        spaces.append("efficientnet")
    points = source.restore(source.points)
    order = torch.randperm(len(points), generator=seeds.generator(6, source.name))
    training, held_out, fresh = points[order[:1240]].split([500, 500, 240])
    as_bytes = ((training[:60, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
    ways = [(space, False) for space in spaces] + [(None, True)]
    heads = ["--robust" if r else s.removeprefix("audit_features:") for s, r in ways]
    print(f"\n| change of the copy, {source.name} |", " | ".join(heads), "|")
    print("|---|" + "---|" * len(ways))
    for name, change in CHANGES.items():
        changed = torch.from_numpy(np.stack([change(x) for x in as_bytes]) / 127.5 - 1)
        generated = torch.cat([changed[:, None], fresh])
        shares = []
        for space, robust in ways:
            found = genonset.audit(
                generated, training, held_out, features=space, robust=robust, n_permutations=100
            )
            right = sum(f.index < 60 and f.nearest == f.index for f in found.copying.flagged)
            wrong = len(found.copying.flagged) - right
            shares.append(f"{right / 60:.2f}" + f" ({wrong} false)" * bool(wrong))
        print(f"| {name} |", " | ".join(shares), "|", flush=True)


def times():
    training, held_out, generated = (
        torch.randn(n, 16, generator=seeds.generator(6, "times", n)) for n in (200, 201, 100)
    )
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        genonset.audit(generated, training, held_out[:200])
        seconds.append(time.perf_counter() - start)
    print(
        f"\naudit 100 x 200 x 200 x 16: median {np.median(seconds):.3f} s, best {min(seconds):.3f}"
    )
    with tempfile.TemporaryDirectory() as home:
        rng = np.random.default_rng(0)
        for name, n in (("generated", 5000), ("training", 2500), ("held", 2500)):
            Path(home, name).mkdir()
            for k, x in enumerate(rng.integers(256, size=(n, 28, 28), dtype=np.uint8)):
                Image.fromarray(x).save(Path(home, name, f"{k}.png"))
        start = time.perf_counter()
        found = genonset.verdict.audit_files(
            *(Path(home, name) for name in ("generated", "training", "held"))
        )
        genonset.write_report(found, Path(home, "report.html"))
        print(
            f"folders of 5000 + 2500 + 2500 28x28 PNG, report included: "
            f"{time.perf_counter() - start:.1f} s"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")


def memory(field):
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(field + ":")) / 1024


def audit_of_maps(home):
    """An audit as the command line does it; the peak of memory beside it."""
    peak, done = [memory("RssAnon")], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak.append(memory("RssAnon"))

    start, before = time.perf_counter(), peak[0]
    watcher = threading.Thread(target=watch)
    watcher.start()
    paths = (Path(home, f"{name}.npy") for name in ("generated", "training", "held_out"))
    found = genonset.verdict.audit_files(*paths)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(f"{found.sentence}\n{found.copying.identical} identical")
    print(f"{seconds:.0f} s on the clock, {time.process_time():.0f} s of processor time")
    print(
        f"RssAnon: {before:.0f} MiB after imports, {max(peak):.0f} MiB at its peak; "
        f"VmHWM {memory('VmHWM'):.0f} MiB"
    )


def memory_map(args):
    with tempfile.TemporaryDirectory() as home:
        draw = seeds.generator(8, "memory map")
        for name in ("training", "held_out", "generated"):
            n = getattr(args, name)
            file = np.lib.format.open_memmap(
                Path(home, f"{name}.npy"), "w+", np.float32, (n, args.dim)
            )
            for start in range(0, n, 10_000):
                size = min(10_000, n - start)
                file[start : start + size] = torch.randn(size, args.dim, generator=draw)
            if name == "generated":
                training = np.load(Path(home, "training.npy"), mmap_mode="r")
                file[: args.copies] = training[:: args.training // max(1, args.copies)][
                    : args.copies
                ]
            file.flush()
        sizes = " x ".join(str(getattr(args, n)) for n in ("generated", "training", "held_out"))
        print(f"audit {sizes}, {args.dim} coordinates, float32, {args.copies} copies", flush=True)
        subprocess.run([sys.executable, __file__, "--of-maps", home], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["criteria", "levels", "features", "times"])
    parser.add_argument("--memory-map", action="store_true")
    parser.add_argument("--of-maps", help=argparse.SUPPRESS)
    for name, value in (
        ("training", 1_000_000),
        ("held-out", 5000),
        ("generated", 500),
        ("dim", 512),
        ("copies", 50),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.of_maps:
        sys.exit(audit_of_maps(args.of_maps))
    if args.memory_map:
        sys.exit(memory_map(args))
    for part in args.parts:
        {"criteria": criteria, "levels": levels, "features": features, "times": times}[part]()
