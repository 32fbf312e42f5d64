"""Methods for Lipschitz constants, one per file; `solvers.registry` is their table.

A cell is a full-dimensional set of inputs on which a network is affine, on its way to being one: in `shallow` a cell of
the arrangement of all kinks; in `regions` a polytope whose first layers are decided, a linear region once all are. A
piece is a box that stands for a part of the domain (`problems.facets`), a node (`search`) a piece with a partial
pattern.
"""
