"""Datasets and the input pipeline; no jax in here."""
