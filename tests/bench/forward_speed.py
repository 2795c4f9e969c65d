"""The forward pass alone: tokens a second and share of the machine's matrix multiplies, by path and family.

    python tests/bench/forward_speed.py
    python tests/bench/forward_speed.py --families roberta roformer rocbert --batches 4 --rounds 5
    python tests/bench/forward_speed.py --device cuda --token-budget 65536 --rows 16384

Base-size models with random weights, bfloat16, packed batches of log-normal lengths (median about 60 words, cut at 512
tokens), cut from one window as the engine does it for each path: sorted by length, or for our kernel not. All paths
take a batch in turn with large products before it, so that what else runs on the machine meets all alike; the best time
of each counts, and beside it the median. Accuracy is that of each token's last hidden state, against float32.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from models.batch import TokenBatch
from models.encoder import EncoderModel
from models.inference import compile_blocks, mixes_lengths, optimize_for_inference, tune_memory
from models.layers.block import Block
from models.layers.fused_block import FusedBlock, LaidOutLinear
from models.roberta import RobertaConfig, RobertaModel
from models.rocbert import RoCBertConfig, RoCBertModel
from models.roformer import RoFormerConfig, RoFormerModel
from pipeline.batching import plan_batches
from pipeline.bench import device_name
from pipeline.ceiling import matmul_rate
from pipeline.device import synchronize
from pipeline.sizing import flops_per_token

FAMILIES: dict[str, tuple[Any, Any]] = {
    "roberta": (RobertaModel, RobertaConfig),
    "roformer": (RoFormerModel, RoFormerConfig),
    "rocbert": (RoCBertModel, RoCBertConfig),
}
TOKENS_PER_WORD = 1.3
NUM_LABELS = 16
CEILING_S = 0.1  # before each batch


def model_of(family: str) -> EncoderModel:
    model_class, config_class = FAMILIES[family]
    torch.manual_seed(0)
    model: EncoderModel = model_class(config_class(vocab_size=30000, type_vocab_size=2, max_position_embeddings=514))
    return model.eval()


def batches_of(
    num_rows: int, token_budget: int, count: int, device: torch.device, *, by_length: bool
) -> list[TokenBatch]:
    """Some batches of a window, from the longest texts to the shortest or of all lengths."""
    generator = np.random.default_rng(0)
    words = np.exp(generator.normal(math.log(60.0), 0.7, num_rows))
    lengths = np.clip((words * TOKENS_PER_WORD).astype(np.int64) + 2, 3, 512)
    plan = plan_batches(np.concatenate([[0], np.cumsum(lengths)]), token_budget, by_length=by_length)
    cuts = list(plan.batches())
    ids = torch.from_numpy(generator.integers(5, 20000, int(lengths.sum())))
    chosen = np.linspace(0, len(cuts) - 2, count).astype(int)
    return [TokenBatch.from_flat(ids[cuts[i][1]], plan.seqlens[cuts[i][0]].tolist(), device=device) for i in chosen]


def paths_of(model: EncoderModel, device: torch.device, batch: TokenBatch) -> dict[str, EncoderModel]:
    plain = copy.deepcopy(model).to(device, torch.bfloat16)
    fused, best = copy.deepcopy(plain), copy.deepcopy(plain)
    optimize_for_inference(best)
    if device.type == "cuda":
        optimize_for_inference(fused)
        compile_blocks(best, batch)
        return {"modules": plain, "joined layers": fused, "joined layers, compiled": best}
    blocks = [block for block in fused.encoder.layer if isinstance(block, Block)]
    fused.encoder.layer = torch.nn.ModuleList(FusedBlock(block, LaidOutLinear) for block in blocks)
    return {"modules": plain, "fused blocks, oneDNN": fused, "our kernel": best}


@dataclass(kw_only=True)
class Side:
    """A path of a family's model, on the batches that the engine would give it."""

    family: str
    name: str
    path: EncoderModel
    batches: list[TokenBatch]
    times: dict[int, list[float]] = field(default_factory=dict)  # seconds, of each batch


def timed(path: EncoderModel, batch: TokenBatch) -> float:
    device = batch.input_ids.device
    synchronize(device)
    begun = time.perf_counter()
    path.forward_packed(batch)
    synchronize(device)
    return time.perf_counter() - begun


@torch.inference_mode()
def accuracy(model: EncoderModel, fast: EncoderModel, batch: TokenBatch) -> tuple[float, float]:
    """The least cosine of a token, and the share of tokens that a random linear head gives the same label."""
    exact = model.forward_packed(batch).last_hidden_state.float()
    found = fast.forward_packed(batch).last_hidden_state.float()
    head = torch.randn(exact.shape[-1], NUM_LABELS, generator=torch.Generator().manual_seed(0)).to(exact.device)
    same = (exact @ head).argmax(-1) == (found @ head).argmax(-1)
    return functional.cosine_similarity(exact, found).min().item(), same.float().mean().item()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=["roberta"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--token-budget", type=int, default=16384)
    parser.add_argument("--rows", type=int, default=4096, help="of the window that batches are cut from")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    tune_memory()
    device = torch.device(arguments.device)
    batches = {
        by_length: batches_of(arguments.rows, arguments.token_budget, arguments.batches, device, by_length=by_length)
        for by_length in (True, False)
    }
    models = {family: model_of(family).to(device) for family in arguments.families}
    sides = [
        Side(family=family, name=name, path=path, batches=batches[not mixes_lengths(path)])
        for family, model in models.items()
        for name, path in paths_of(model, device, batches[True][0]).items()
    ]
    rates: list[float] = []
    for side in sides:
        side.path.forward_packed(side.batches[0])
    for _ in range(arguments.rounds):
        for index in range(arguments.batches):
            rates.append(matmul_rate(device, torch.bfloat16, seconds=CEILING_S))
            for side in sides:
                side.times.setdefault(index, []).append(timed(side.path, side.batches[index]))

    flops = flops_per_token(next(iter(models.values())).config)
    best, middle = max(rates), statistics.median(rates)
    place = device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {place}, {arguments.batches} batches of {arguments.token_budget:,} tokens")
    print(f"ceiling: best {best / 1e12:.2f} TFLOP/s = {best / flops:,.0f} tokens/s, median {middle / 1e12:.2f} TFLOP/s")
    print(f"{'family':10} {'path, bfloat16':26} {'tokens/s':>9} {'share':>7} {'median':>9} {'share':>7}")
    for side in sides:
        tokens = sum(batch.num_tokens for batch in side.batches)
        fastest = tokens / sum(min(times) for times in side.times.values())
        usual = tokens / sum(statistics.median(times) for times in side.times.values())
        shares = fastest * flops / best, usual * flops / middle
        print(f"{side.family:10} {side.name:26} {fastest:9,.0f} {shares[0]:7.1%} {usual:9,.0f} {shares[1]:7.1%}")
    print(f"{'family':10} {'against float32':26} {'least cosine':>13} {'same label':>11}")
    for side in sides:
        cosine, same = accuracy(models[side.family], side.path, side.batches[len(side.batches) // 2])
        print(f"{side.family:10} {side.name:26} {cosine:13.6f} {same:11.2%}")


if __name__ == "__main__":
    main()
