"""Reads tables from files: CSV and Parquet, with the place of every value."""
