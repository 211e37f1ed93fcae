"""Paddle, imported as its runtime imports it: what a spare worker has ahead."""

from samovar.runtimes.paddle import inference

inference()
