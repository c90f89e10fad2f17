"""What a checkpoint says of itself: settings, modules, tokenizer, weights, and the one description made of them."""
