"""RoFormer's names in checkpoints. Our modules have the same names, so this says only what a name cannot."""

from models.checkpoint import CheckpointNames

NAMES = CheckpointNames(
    # The sinusoid; and slopes of an activation in the sequence head, which the reference makes anew for every call.
    computed=("encoder.embed_positions.", "classifier.activation.")
)
