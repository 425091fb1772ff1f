"""Seconds until `genonset --help` has answered: best and median of ten processes."""

import statistics
import subprocess
import sys
import time

seconds = []
for _ in range(10):
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "genonset.cli", "--help"], check=True, stdout=subprocess.DEVNULL
    )
    seconds.append(time.perf_counter() - started)
print(f"genonset --help: best {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s")
