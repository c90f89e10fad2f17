"""Files and batches: what is stored of them, and the background work that answers the lines of a batch."""
