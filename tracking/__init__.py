"""What happened: records, Parquet parts and MLflow; knows no mathematics."""
