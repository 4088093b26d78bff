"""Downloaded data sets -> JSON maps: what `scripts/prepare_dataset.py` does.

archives (the files of a source) -> public, formats (which file is what) -> samples -> convert_sample (pixels) -> build
(a whole data set on disk).
"""
