"""Networks: what is asked about, and what the constructions build."""
