"""Linear relaxations carried backward: from many neurons, or entries of a Jacobian, to what they depend on."""
