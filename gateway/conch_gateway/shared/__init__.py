"""State that several gateways share through Redis: usage of keys, and vectors. Imported only where a Redis is set."""
