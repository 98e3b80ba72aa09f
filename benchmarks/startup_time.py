"""How long ``bitwright --help`` takes, beside a Python that does nothing."""

from __future__ import annotations

import argparse
import subprocess
import sys

import _measure

LIMIT = 0.2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    _measure.common(parser, repeat=11)
    args = parser.parse_args()

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    pairs = _measure.in_turns(args.repeat, lambda: run("-m", "bitwright", "--help"), lambda: run("-c", "pass"))
    walls = sorted(ours.wall for ours, _ in pairs)
    found = {**_measure.ratios(pairs), "cpu_ratio": None, "median_seconds": round(walls[len(walls) // 2], 4)}
    line = (
        f"bitwright --help: {found['median_seconds']:.3f} s (least {found['seconds']:.3f}), {found['ratio']:.1f} × a Python "
        f"that does nothing; promised: under {LIMIT} s"
    )
    _measure.report(args, {"benchmark": "startup_time", **found, "under_seconds": LIMIT}, [line])


if __name__ == "__main__":
    main()
