"""Test-time refinement: predictions from several views of a photograph (mirror images, zoom windows, tiles)."""
