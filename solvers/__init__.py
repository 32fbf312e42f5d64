"""Mathematics on one network or one data set; knows no Ray and no MLflow."""
