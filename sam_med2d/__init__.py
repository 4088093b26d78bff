"""Everything around the model: data, prompts, training, evaluation, inference, export."""
