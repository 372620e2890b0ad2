"""Sets in shards: tar files or Parquet files that hold many samples each."""
