"""SAM-Med2D's names, on top of the package."""
