"""Downloaded data sets -> JSON maps: what `scripts/prepare_dataset.py` does.

tree (files of a source, archives unpacked) -> sets (which file is what) -> samples -> convert (pixels) -> build (a
whole data set on disk).
"""
