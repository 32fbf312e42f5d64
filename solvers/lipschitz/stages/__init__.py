"""Parts of `auto`: which methods it asks, in which order."""
