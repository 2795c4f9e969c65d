"""Tokens a second of shardmill and of what one would use instead: same text, same weights, same truncation, one run.

    make peers                                        # once: sets up the other libraries
    python tests/bench/peers.py                       # English, RoBERTa of base size with random weights
    python tests/bench/peers.py --family roformer     # Chinese, against transformers v4; or rocbert
    python tests/bench/peers.py --peers ours openvino --rounds 5 --seconds 20 --report report.md

Each side is a process of its own that has loaded its model. In every round all sides take the same new texts, one side
after the other, from Parquet to Parquet; a side that is too slow for all of them takes the first ones, as many as it
does in about `--seconds`. Tokens are counted once, without padding, for all. Ratios are medians over rounds of the
ratios within one. What the sides say of the texts is compared with what the first peer in float32 says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distributions, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from peer_contests import CONTESTS, Side, write_model
from peer_sides import MAX_TOKENS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OVERLAYS = {"peers": Path(sys.prefix) / "peers", "reference-v4": Path(sys.prefix) / "reference-v4"}
FIRST_ROWS = 8  # on which libraries load, and choose their kernels
COMPARED_ROWS = 64  # every side takes at least so many
ROW_GROUP_ROWS = 512


# -- processes ---------------------------------------------------------------------------------------------------------


def serve(family: str, place: int, model: Path, cpus: int) -> None:
    """In the process of a side: for each line `source target`, does the work and answers how long it took."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        import torch

        torch.set_num_threads(cpus)
        run = CONTESTS[family].sides[place].start(model, cpus=cpus)
        answer(ready=True)
        for line in sys.stdin:
            source, target = json.loads(line)
            answer(s=run(Path(source), Path(target)), peak_bytes=_peak_bytes())
    except Exception as error:
        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def _peak_bytes() -> int:
    from pipeline.replica import peak_memory_bytes

    return peak_memory_bytes()


class SideFailed(Exception):
    """A side could not start, or could not go on."""


class SideProcess:
    """A side at work in a process of its own."""

    def __init__(self, family: str, place: int, model: Path, cpus: int, log: Path) -> None:
        side = CONTESTS[family].sides[place]
        paths = [str(ROOT), str(HERE)]
        if side.overlay:
            paths.insert(0, str(OVERLAYS[side.overlay]))
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", family, str(place), str(model), str(cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(paths),
                "OMP_NUM_THREADS": str(cpus),
                "TOKENIZERS_PARALLELISM": "true",
                "HF_HUB_OFFLINE": "1",
            },
            text=True,
        )
        self._read()

    def run(self, source: Path, target: Path) -> dict[str, Any]:
        """Labels the texts of a file; gives seconds and the process's peak memory."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(source), str(target)]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._log.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise SideFailed(answer["error"])
        return answer


# -- the contest -------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Standing:
    """What is known of a side."""

    side: Side
    process: SideProcess | None = None
    num_rows: int = 0  # that it takes in a round
    speeds: list[float] = field(default_factory=list)  # tokens a second, by round
    peak_bytes: int = 0
    likeness: str = ""
    error: str = ""


class Corpus:
    """The texts of each round as Parquet files, and how many tokens they have."""

    def __init__(self, family: str, model: Path, folder: Path, num_rows: int) -> None:
        from models import load_config, load_tokenizer
        from pipeline.sizing import flops_per_token

        self.flops_per_token = flops_per_token(load_config(model))
        self._texts = CONTESTS[family].texts
        self._tokenizer = load_tokenizer(model)
        self._folder = folder
        self._num_rows = num_rows
        self._seqlens: dict[int, np.ndarray] = {}

    def file(self, number: int, num_rows: int) -> Path:
        """The first rows of a round."""
        path = self._folder / f"texts-{number}-{num_rows}.parquet"
        if not path.exists():
            texts = self._texts(self._num_rows, number)[:num_rows]
            pq.write_table(pa.table({"text": texts}), path, row_group_size=ROW_GROUP_ROWS)
        return path

    def seqlens(self, number: int) -> np.ndarray:
        """Tokens of each row of a round, special ones included, cut as the model cuts them."""
        if number not in self._seqlens:
            encoding = self._tokenizer.encode_flat(
                self._texts(self._num_rows, number), max_length=MAX_TOKENS, overflow=False
            )
            self._seqlens[number] = encoding.seqlens
        return self._seqlens[number]

    def num_tokens(self, number: int, num_rows: int) -> int:
        return int(self.seqlens(number)[:num_rows].sum())


def hold(family: str, arguments: argparse.Namespace, folder: Path) -> tuple[list[Standing], list[float], Corpus]:
    """Runs a contest; gives the standings and the rate of the matrix multiplies before every round."""
    model = folder / "model"
    model.mkdir()
    write_model(family, model)
    corpus = Corpus(family, model, folder, arguments.rows)
    standings = []
    for place, side in enumerate(CONTESTS[family].sides):
        if arguments.peers and not any(side.name.startswith(name) for name in arguments.peers):
            continue
        standing = Standing(side=side)
        standings.append(standing)
        with _guarded(standing):
            _say(f"{side.name}: loading")
            standing.process = SideProcess(family, place, model, arguments.cpus, folder / f"side-{place}.log")
            _warm_up(standing, corpus, folder, arguments)
    rates = []
    for number in range(1, arguments.rounds + 1):
        rates.append(_matmul_rate(arguments.cpus))
        _say(f"round {number}: {rates[-1] / 1e12:.2f} TFLOP/s")
        for place, standing in enumerate(standings):
            with _guarded(standing):
                _turn(standing, corpus, number, _out(folder, number, place))
    _compare(standings, folder)
    for standing in standings:
        if standing.process is not None:
            standing.process.stop()
    return standings, rates, corpus


@contextmanager
def _guarded(standing: Standing) -> Iterator[None]:
    """Takes note of a side that fails; the others go on."""
    try:
        yield
    except (SideFailed, BrokenPipeError) as error:
        standing.error, standing.process = str(error), None
        _say(f"{standing.side.name}: {error}")


def _warm_up(standing: Standing, corpus: Corpus, folder: Path, arguments: argparse.Namespace) -> None:
    """Lets a side see its first texts, and finds how many rows it does in time."""
    assert standing.process is not None
    target = folder / "warm.parquet"
    standing.process.run(corpus.file(0, FIRST_ROWS), target)
    num_rows = min(COMPARED_ROWS, arguments.rows)
    while True:
        took = standing.process.run(corpus.file(0, num_rows), target)["s"]
        if took > arguments.seconds / 3 or num_rows == arguments.rows:
            break
        num_rows = min(arguments.rows, round(num_rows * min(8.0, max(2.0, arguments.seconds / took))))
    standing.num_rows = min(arguments.rows, max(COMPARED_ROWS, round(num_rows * arguments.seconds / took)))


def _turn(standing: Standing, corpus: Corpus, number: int, target: Path) -> None:
    if standing.process is None:
        return
    found = standing.process.run(corpus.file(number, standing.num_rows), target)
    standing.speeds.append(corpus.num_tokens(number, standing.num_rows) / found["s"])
    standing.peak_bytes = found["peak_bytes"]
    _say(f"  {standing.side.name}: {standing.speeds[-1]:,.0f} tokens/s ({standing.num_rows:,} rows)")


def _compare(standings: list[Standing], folder: Path) -> None:
    """Holds what the sides say of the first round's texts against what the exact side of their task says."""
    results = [(standing, _out(folder, 1, place)) for place, standing in enumerate(standings)]
    finished = [(standing, pq.read_table(path)) for standing, path in results if path.exists()]
    exact = {standing.side.task: (standing, table) for standing, table in finished if standing.side.exact}
    for standing, table in finished:
        reference, expected = exact.get(standing.side.task, (None, None))
        if reference is standing:
            standing.likeness = "what others are compared with"
        elif expected is not None:
            standing.likeness = _likeness(table, expected)


def _out(folder: Path, number: int, place: int) -> Path:
    return folder / f"out-{number}-{place}.parquet"


def _likeness(found: pa.Table, expected: pa.Table) -> str:
    num_rows = min(found.num_rows, expected.num_rows)
    found, expected = found.slice(0, num_rows), expected.slice(0, num_rows)
    if "embedding" in found.column_names:
        a, b = (np.stack(table["embedding"].to_pylist()).astype(np.float64) for table in (found, expected))
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        return f"cosine ≥ {cosines.min():.6f} ({num_rows} rows)"
    same = np.array(found["label"].to_pylist()) == np.array(expected["label"].to_pylist())
    off = np.abs(np.array(found["score"].to_pylist()) - np.array(expected["score"].to_pylist()))[same].max()
    return f"labels {same.mean():.1%}, scores within {off:.4f} ({num_rows} rows)"


def _matmul_rate(cpus: int) -> float:
    import torch

    from pipeline.ceiling import matmul_rate

    torch.set_num_threads(cpus)
    return matmul_rate(torch.device("cpu"), torch.bfloat16, seconds=2.0)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


# -- what is printed ---------------------------------------------------------------------------------------------------


HEAD = ("side", "settings", "tokens/s", "lowest", "highest", "ratio", "of the ceiling", "rows", "memory", "outputs")


def report(
    family: str, standings: list[Standing], rates: list[float], corpus: Corpus, arguments: argparse.Namespace
) -> str:
    """The table, in markdown; `ratio` is how many times faster the first side is."""
    seqlens = np.concatenate([corpus.seqlens(number) for number in range(1, arguments.rounds + 1)])
    first = next((standing for standing in standings if standing.speeds), None)
    measured = ", ".join(f"{rate / 1e12:.2f}" for rate in rates)
    lines = [
        f"### {family}: {arguments.rounds} rounds, {arguments.cpus} threads, load average {os.getloadavg()[0]:.1f}",
        "",
        f"Tokens a row: median {np.median(seqlens):.0f}, mean {seqlens.mean():.0f}, at most {seqlens.max()}. "
        f"Matrix multiplies in bfloat16 before each round: {measured} TFLOP/s.",
        "",
        f"| {' | '.join(HEAD)} |",
        "|---|---" + "|---:" * 7 + "|---|",
    ]
    for standing in standings:
        side = standing.side
        if not standing.speeds or first is None:
            lines.append(f"| {side.name} | {side.settings} | failed | | | | | | | {standing.error} |")
            continue
        ratios = [ours / theirs for ours, theirs in zip(first.speeds, standing.speeds, strict=False)]
        shares = [speed * corpus.flops_per_token / rate for speed, rate in zip(standing.speeds, rates, strict=False)]
        cells = (
            side.name,
            side.settings,
            f"{median(standing.speeds):,.0f}",
            f"{min(standing.speeds):,.0f}",
            f"{max(standing.speeds):,.0f}",
            f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            f"{median(shares):.0%}",
            f"{standing.num_rows:,}",
            f"{standing.peak_bytes / 1e9:.1f} GB",
            standing.likeness,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Where this was measured, and with which versions."""
    import torch

    from pipeline.bench import device_name

    names = ("torch", "transformers", "tokenizers", "pyarrow", "ray", "numpy")
    versions = [f"{name} {version(name)}" for name in names]
    for overlay, listed in (("peers", ("sentence-transformers", "openvino", "onnxruntime")),
                            ("reference-v4", ("transformers", "tokenizers"))):  # fmt: skip
        versions += [f"{name} {_overlay_version(overlay, name)}" for name in listed]
    where = f"{device_name(torch.device('cpu'))}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{where}; {', '.join(versions)}"


def _overlay_version(overlay: str, name: str) -> str:
    found = [
        d.version for d in distributions(path=[str(OVERLAYS[overlay])]) if d.name.lower().replace("_", "-") == name
    ]
    return f"{found[0]} (in {overlay})" if found else "missing: make peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=CONTESTS, default=["roberta"])
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="only sides whose names begin so")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4096, help="in a round, for sides that are fast enough")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a side in a round, roughly")
    parser.add_argument("--cpus", type=int, default=os.cpu_count(), help="threads of every side")
    parser.add_argument("--report", type=Path, help="append the tables to this file, with machine and command")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        family, place, model, cpus = arguments.serve
        serve(family, int(place), Path(model), int(cpus))
        return
    tables = []
    for family in arguments.family:
        with tempfile.TemporaryDirectory() as folder:
            tables.append(report(family, *hold(family, arguments, Path(folder)), arguments))
            print(tables[-1])
    if arguments.report:
        command = f"python {shlex.join([str(Path(__file__).relative_to(ROOT)), *sys.argv[1:]])}"
        with arguments.report.open("a", encoding="utf-8") as file:
            file.write(f"\n    {command}\n\n{machine()}\n\n" + "\n".join(tables))


if __name__ == "__main__":
    main()
