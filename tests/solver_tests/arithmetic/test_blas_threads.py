"""Products with small layers take one thread of BLAS, and leave its settings as they were."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from solvers.arithmetic import threads
from solvers.lipschitz.sampling import Sampling
from solvers.networks.relu import ReluNetwork
from solvers.problems.questions import LipschitzProblem


def blas_threads() -> list[int]:
    """Threads of every BLAS that computes for us; other libraries may bring more of them."""
    return [library["num_threads"] for library in threads._blas().info() if library["user_api"] == "blas"]


def test_small_products_take_one_thread_and_large_ones_what_there_is() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        assert 2 in before
        with threads.products_of(threads.MANY_WEIGHTS - 1):
            assert set(blas_threads()) == {1}
        assert blas_threads() == before
        with threads.products_of(threads.MANY_WEIGHTS):
            assert blas_threads() == before


@pytest.mark.parametrize("fails", [False, True])
def test_every_method_computes_in_that_context(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    solve = Sampling._solve_batch

    def watched(self, problems, budget, rngs):
        seen.append(blas_threads())
        if fails:
            raise RuntimeError("as a method might")
        return solve(self, problems, budget, rngs)

    monkeypatch.setattr(Sampling, "_solve_batch", watched)
    problem = LipschitzProblem(ReluNetwork([np.ones((2, 2)), np.ones((1, 2))], [np.zeros(2), np.zeros(1)]), 2.0)
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        if fails:
            with pytest.raises(RuntimeError):
                Sampling().solve(problem)
        else:
            Sampling().solve(problem)
        assert blas_threads() == before
    assert [set(one) for one in seen] == [{1}]
