"""What computes vectors and scores, behind one protocol: Triton, and OpenAI-like upstreams."""
