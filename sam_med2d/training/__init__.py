"""What training and testing share: prompts from masks, losses, the click loop."""
