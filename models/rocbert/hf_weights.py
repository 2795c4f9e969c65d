"""RoCBert's names in checkpoints. Our modules have the same names, so this says only what a name cannot."""

from models.checkpoint import CheckpointNames

NAMES = CheckpointNames(preferred={"cls.predictions.bias": "cls.predictions.decoder.bias"})
