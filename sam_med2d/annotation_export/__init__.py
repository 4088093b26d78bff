"""Data sets and predictions -> files of other tools: what `scripts/export_annotations.py` does.

annotation_source (photographs and their masks) -> formats (one module each) -> command (in its place, and the report).
"""
