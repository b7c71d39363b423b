"""Engines: a loaded model that scores and writes."""

# Raised whenever an engine may give another score, text or count of tokens for the same request: what caches and
# journals hold of other versions is not used. tests/engine/test_golden.py holds some, to be changed knowingly.
ENGINE_VERSION = 3
