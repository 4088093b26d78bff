"""Whether a data set in the documented layout is sound: what `scripts/check_dataset.py` looks at and reports."""
