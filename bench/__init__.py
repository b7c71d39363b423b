"""Measurements beside lm-eval; see bench/README.md. Nothing here ships in the wheel."""
