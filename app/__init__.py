"""The annotation app: photographs of a folder in the browser, masks by name, box, click and brush, saved as data."""
