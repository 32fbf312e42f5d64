"""Parts of vertex enumeration: the cells of an arrangement of hyperplanes."""
