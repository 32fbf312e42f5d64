"""Linear relaxations: carried backward from many neurons or entries of a Jacobian; of signs coupled with inputs."""
