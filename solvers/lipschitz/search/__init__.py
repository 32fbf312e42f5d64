"""Parts of branch and bound: nodes, the compiled search below a node, proofs."""
