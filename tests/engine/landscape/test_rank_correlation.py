"""Rank correlations against scipy's, with ties, and a permutation test that holds its level."""

import numpy as np
import pytest
from scipy import stats

from lsshell.engine.landscape.rank_correlation import kendall, rank_correlation, spearman


@pytest.mark.parametrize(("n", "values"), [(5, 100), (20, 4), (50, 2), (200, 30), (40, 1000)])
def test_coefficients_are_those_of_scipy_with_ties(n, values):
    draw = np.random.default_rng(n)
    x = draw.integers(0, values, n).astype(float)
    y = x + draw.integers(0, values, n)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


def test_monotone_columns_have_1_and_columns_that_fall_as_the_other_grows_minus_1():
    x = [0.1, 0.2, 0.7, 1.5, 9.0]
    assert (spearman(x, np.exp(x)), kendall(x, np.exp(x))) == (pytest.approx(1), pytest.approx(1))
    fallen = [-a for a in x]
    assert (spearman(x, fallen), kendall(x, fallen)) == (pytest.approx(-1), pytest.approx(-1))


def test_there_is_none_for_two_pairs_or_a_column_that_never_changes():
    for x, y in (([1, 2], [3, 4]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0, 0, 0]), ([], [])):
        found = rank_correlation(x, y)
        assert (found.n, found.spearman, found.kendall, found.p) == (len(x), None, None, None)
    for x, y in (([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0, 0, 0]), ([], [])):
        assert np.isnan(spearman(x, y))
        assert np.isnan(kendall(x, y))


def test_pairs_with_a_gap_are_left_out_and_n_says_so():
    nan, inf = float("nan"), float("inf")
    x = [1, 2, None, 3, 4, nan, 7]
    y = [1, 2, 99, 3, None, 5, inf]
    found = rank_correlation(x, y)
    assert (found.n, found.spearman) == (4, pytest.approx(1))
    assert spearman([1, nan, 2, 3], [3, 1, 2, 1]) == pytest.approx(-1)


def test_the_p_value_is_near_that_of_all_permutations():
    x, y = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]

    def statistic(shuffled):
        return stats.spearmanr(x, shuffled).statistic

    exact = stats.permutation_test(
        (y,), statistic, permutation_type="pairings", n_resamples=np.inf
    ).pvalue
    assert rank_correlation(x, y).p == pytest.approx(exact, abs=0.01)
    assert rank_correlation(x, x).p == pytest.approx(2 / 720, abs=0.002)
    assert rank_correlation(x, y) == rank_correlation(x, y)


def test_of_independent_columns_as_many_are_called_significant_as_the_level_says():
    draw = np.random.default_rng(0)
    found = [rank_correlation(*draw.integers(0, 5, (2, 8)).tolist()).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.09
