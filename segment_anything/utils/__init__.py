"""Helpers of the model package: picture geometry, atomic files."""
