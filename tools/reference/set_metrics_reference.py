#!/usr/bin/env python3
"""Reference values of the set metrics in src/vggflow/metrics/metrics_test.cpp, on arrays that both sides make from one formula.

Frechet distance by torch-fidelity (eigenvalues) and by scipy.linalg.sqrtm, with more images than features and with fewer, there in 40 digits too; KID by torch-fidelity
on whole sets; precision and recall by torch-fidelity and prdc; the Vendi score by vendi-score; CMMD by loops over pairs of its definition
(Jayasumana et al. 2024: Gaussian kernel of width 10 on unit vectors, times 1000, diagonal included); the bootstrap by scipy.stats.bootstrap; the
jackknife by a loop. Usage: set_metrics_reference.py
"""
import math

import mpmath
import numpy as np
import torch
from prdc import compute_prdc
from scipy.linalg import sqrtm
from scipy.stats import bootstrap
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from vendi_score import vendi


def features(n, d, shift):
    i, j = np.arange(n)[:, None], np.arange(d)[None, :]
    return np.sin(1.7 * i + 0.6 * j * j + 0.31 * i * j + shift) + 0.2 * shift


def fidelity_fid(a, b):
    stats = [fid_features_to_statistics(torch.tensor(x)) for x in (a, b)]
    return fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]


def scipy_fid(a, b):
    s1, s2 = np.cov(a.T), np.cov(b.T)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)


def exact_fid(a, b):
    """In 40 digits, over the n x n product of centred features: the d x d product is singular for n < d, and a root of its rounding errors
    (1e-16) is 1e-8 an eigenvalue, which is where the other two lose theirs."""
    with mpmath.workdps(40):
        x, y = (mpmath.matrix(z.tolist()) for z in (a, b))
        mean_x, mean_y = (mpmath.matrix([sum(z[i, j] for i in range(z.rows)) / z.rows for j in range(z.cols)]) for z in (x, y))
        cx = mpmath.matrix(x.rows, x.cols)
        cy = mpmath.matrix(y.rows, y.cols)
        for c, z, mean in ((cx, x, mean_x), (cy, y, mean_y)):
            for i in range(z.rows):
                for j in range(z.cols):
                    c[i, j] = (z[i, j] - mean[j]) / mpmath.sqrt(z.rows - 1)
        m = cx * cy.T
        roots = sum(mpmath.sqrt(max(e, 0)) for e in mpmath.eigsy(m * m.T, eigvals_only=True))
        squares = sum(e**2 for c in (cx, cy) for e in c)
        return float(sum((p - q) ** 2 for p, q in zip(mean_x, mean_y)) + squares - 2 * roots)


def cmmd(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))

    def mean_kernel(x, y):
        return np.mean([math.exp(-np.sum((p - q) ** 2) / (2 * 10.0**2)) for p in x for q in y])

    return 1000 * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b))


def jackknife(values, groups):
    left_out = np.array([np.mean([v for i, v in enumerate(values) if i % groups != g]) for g in range(groups)])
    return math.sqrt((groups - 1) / groups * np.sum((left_out - left_out.mean()) ** 2))


for n, m, d in ((120, 90, 50), (20, 24, 50)):
    a, b = features(n, d, 0.0), features(m, d, 0.4)
    print(f"frechet n={n},{m} d={d}: torch-fidelity {fidelity_fid(a, b):.12g} scipy {scipy_fid(a, b):.12g}")
print(f"              of the last, in 40 digits {exact_fid(a, b):.12g}")
a, b = features(60, 8, 0.0), features(60, 8, 0.4)
ta, tb = torch.tensor(a), torch.tensor(b)
kid = kid_features_to_metric(ta, tb, kid_subsets=1, kid_subset_size=60, verbose=False, rng_seed=0)
print(f"kid           {kid['kernel_inception_distance_mean']:.12g}")
few = 0.8 * features(40, 8, 2.0) + 0.1
for k in (3, 5):
    prc = prc_features_to_metric(ta, torch.tensor(few), prc_neighborhood=k, prc_batch_size=100, save_cpu_ram=False, verbose=False)
    prdc = compute_prdc(real_features=few, fake_features=a, nearest_k=k)
    print(f"precision, recall k={k}: {prc['precision']:.12g} {prc['recall']:.12g} prdc {prdc['precision']:.12g} {prdc['recall']:.12g}")
print(f"cmmd          {cmmd(a, few):.12g}")
print(f"vendi         {vendi.score_dual(a):.12g}; of 5 {vendi.score_dual(a[:5]):.12g}")
x = a[:, 0]
interval = bootstrap((x,), np.mean, n_resamples=200000, method="percentile", rng=np.random.default_rng(0)).confidence_interval
print(f"bootstrap     {interval.low:.4f} {interval.high:.4f}")
print(f"jackknife     60 groups {jackknife(x, 60):.12g}; 7 groups {jackknife(x, 7):.12g}")
