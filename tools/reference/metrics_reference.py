#!/usr/bin/env python3
"""Reference values of src/vggflow/metrics/metrics_test.cpp from scipy, on arrays that both sides make from one formula.

Frechet distance by scipy.linalg.sqrtm, the unbiased squared MMD by loops over pairs, diversity by scipy's cosine distances, the
standard error by scipy.stats.sem. Usage: metrics_reference.py
"""
import numpy as np
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist
from scipy.stats import sem


def features(n, d, shift):
    i, j = np.arange(n)[:, None], np.arange(d)[None, :]
    return np.sin(1.7 * i + 0.6 * j * j + 0.31 * i * j + shift) + 0.2 * shift


def frechet(a, b):
    s1, s2 = np.cov(a.T), np.cov(b.T)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)


def squared_mmd(a, b):
    def kernel(x, y):
        return (np.dot(x, y) / len(x) + 1) ** 3

    def within(x):
        return np.mean([kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])

    return within(a) + within(b) - 2 * np.mean([kernel(x, y) for x in a for y in b])


a, b = features(12, 5, 0.0), features(9, 5, 1.5)
print(f"estimate  sem {sem(a[:, 0]):.15g}")
print(f"diversity     {np.mean(pdist(a, 'cosine')):.15g}")
print(f"frechet n > d {frechet(a, b):.15g}")
print(f"squared mmd   {squared_mmd(a, b):.15g}")
