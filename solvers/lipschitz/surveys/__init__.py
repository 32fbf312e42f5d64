"""What methods say together: all outputs of a network, all of its linear regions."""
