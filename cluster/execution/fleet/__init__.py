"""Studies on Ray: a dispatcher that only decides, the actors that obey it, and the driver's book of what is kept."""
