"""Trains the demo's models: `python -m jobs.demo.train [topics|ner|embed|zh_topics|zh_ner|all] [--seed N]`.

Each is trained from nothing, vocabulary included, on texts from the grammars in `text/`; a few minutes on one core. It
replaces the model in `models/` if it reaches the bars on the bundled corpus (`scores.py`), and is refused otherwise.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
from pathlib import Path

import torch

from jobs.demo import DemoJob, jobs
from jobs.demo.chinese import train_zh_ner, train_zh_topics
from jobs.demo.english import train_embed, train_ner, train_topics
from jobs.demo.scores import scores
from jobs.demo.training import Recipe
from models.modeling import PreTrainedModel
from models.tokenization.flat_tokenizer import FlatTokenizer

logger = logging.getLogger(__name__)

# A topic is a matter of words, a name of what stands around it: hence the larger vocabularies and the deeper model.
# RoBERTa's initializer_range of 0.02 is meant for widths of 768, and narrow classifiers are slow to start with it; but
# with more, embeddings soon collapse into one. Each model has about 0.7 million parameters, less than 3 MB.
RECIPES = {
    "topics": Recipe(
        vocabulary=5000,
        hidden_size=96,
        intermediate_size=256,
        layers=2,
        dropout=0.1,
        initializer_range=0.06,
        batch_texts=64,
        steps=2000,
    ),
    "ner": Recipe(
        vocabulary=2000,
        hidden_size=128,
        intermediate_size=320,
        layers=3,
        dropout=0.0,
        initializer_range=0.06,
        batch_texts=48,
        steps=3000,
    ),
    "embed": Recipe(
        vocabulary=5000,
        hidden_size=96,
        intermediate_size=256,
        layers=2,
        dropout=0.1,
        initializer_range=0.02,
        batch_texts=74,
        steps=1000,
    ),
    "zh_topics": Recipe(
        vocabulary=4000,
        hidden_size=96,
        intermediate_size=256,
        layers=2,
        dropout=0.1,
        initializer_range=0.06,
        batch_texts=64,
        steps=2500,
    ),
    "zh_ner": Recipe(
        vocabulary=6500,
        hidden_size=128,
        intermediate_size=320,
        layers=3,
        dropout=0.1,
        initializer_range=0.06,
        batch_texts=48,
        steps=2000,
    ),
}

TRAINERS = {
    "topics": train_topics,
    "ner": train_ner,
    "embed": train_embed,
    "zh_topics": train_zh_topics,
    "zh_ner": train_zh_ner,
}


def save(job: DemoJob, model: PreTrainedModel, tokenizer: FlatTokenizer) -> None:
    """Puts the model in the place of the bundled one."""
    shutil.rmtree(job.model, ignore_errors=True)
    model.save_pretrained(job.model)
    tokenizer.save_pretrained(job.model)
    if job.name == "embed":
        write_pooling(job.model, model.config.hidden_size)


def write_pooling(folder: Path, hidden_size: int) -> None:
    """Says that an embedding is the mean over the tokens, in the files of sentence-transformers."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True}
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m jobs.demo.train", description="Trains the demo's models.")
    parser.add_argument("model", nargs="?", default="all", choices=[*TRAINERS, "all"])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # sums come out the same on any machine with the same kernels

    for job in jobs():
        if arguments.model not in (job.name, "all"):
            continue
        torch.manual_seed(arguments.seed)
        model, tokenizer = TRAINERS[job.name](RECIPES[job.name], random.Random(arguments.seed))
        results = scores(job, (model, tokenizer))
        shown = ", ".join(map(str, results))
        if any(result.value < result.bar for result in results):
            parser.exit(1, f"{job.name}: {shown}: not written; try another seed or more text\n")
        save(job, model, tokenizer)
        logger.info("%s: %s, written to %s", job.name, shown, job.model)


if __name__ == "__main__":
    main()
