"""lmeval: evaluate language models, from a YAML task to a number with its uncertainty."""

__version__ = "0.1.0"
