"""Backends, which compute vectors and scores, behind one protocol: Triton, and upstreams of the OpenAI kind."""
