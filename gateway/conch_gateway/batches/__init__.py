"""Files and batches: their tables, and the background tasks that compute the lines of batches."""
