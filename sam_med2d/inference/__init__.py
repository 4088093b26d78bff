"""From photographs and prompts to masks, pictures, COCO JSON and a table."""
