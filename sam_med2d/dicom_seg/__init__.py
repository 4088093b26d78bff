"""DICOM segmentations: masks of a photograph that is a DICOM file, as an object that refers to it."""
