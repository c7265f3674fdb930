"""Fit one variant, once per seed."""
