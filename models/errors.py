"""What can be wrong with a model or a tokenizer.

    ModelError
    ├── ModelNotFound        no such folder, Hub repository, revision or file in it
    ├── UnknownFamily        config.json names a model type that is not ours
    ├── ConfigError          a config field is missing, misspelt or contradicts another (a ValueError, too)
    ├── CheckpointError      weights unreadable, or parameters missing, unexpected or misshapen
    └── TokenizerError       tokenizer files missing or unreadable

Every message says what was expected, what was found, where, and what to do next.
"""


class ModelError(Exception):
    """The model cannot be used as it is; trying again will not help."""


class ModelNotFound(ModelError):
    """No such folder, Hub repository, revision, or file in it."""


class UnknownFamily(ModelError):
    """`config.json` names a model type that is not ours."""


class ConfigError(ModelError, ValueError):
    """A config field is missing, misspelt, or contradicts another."""


class CheckpointError(ModelError):
    """Weights are unreadable, or parameters are missing, unexpected or misshapen."""


class TokenizerError(ModelError):
    """Tokenizer files are missing or unreadable."""
