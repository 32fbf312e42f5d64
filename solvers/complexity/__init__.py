"""The problem-adaptive measure of a data set: mutual coverings, distances, mean widths, worst-case counts."""
