"""Jinja2 in a sandbox: what a template may reach, how much work it may do, how large it may be.

The work is counted, not timed, so that a template that renders on one machine does so on every other. See `meter`.
"""

from lmeval.sandbox.environment import ENVIRONMENT
from lmeval.sandbox.meter import begin, charge, weigh
from lmeval.sandbox.source import MAX_LOOP_DEPTH, MAX_SOURCE, parsed, prepared

__all__ = ["ENVIRONMENT", "MAX_LOOP_DEPTH", "MAX_SOURCE", "begin", "charge", "parsed", "prepared", "weigh"]
