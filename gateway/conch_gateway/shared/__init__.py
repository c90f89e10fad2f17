"""What several gateways share through Redis: what keys have used, and vectors. Imported only where a Redis is set."""
