"""Time and memory against a straightforward rendering of the published formulas."""
