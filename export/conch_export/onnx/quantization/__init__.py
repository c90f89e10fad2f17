"""Weights and activations in eight bits: schemes, calibration, and the quantized products."""
