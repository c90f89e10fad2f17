"""Reading a checkpoint: settings, modules, tokenizer, weights, heads, and the description made of them."""
