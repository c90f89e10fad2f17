"""What computes vectors and scores: Triton, and models of other servers."""
