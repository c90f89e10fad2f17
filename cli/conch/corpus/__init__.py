"""`conch embed` and `conch rerank`: compute whole corpora from files to Parquet files."""
