"""One branch and bound spread over workers: what travels, who searches, what is kept on disk."""
