"""The recursions as a textbook writes them, one step at a time, as oracles for the package.

Nothing here comes from the package: the second moments of (theta, u, e) are written out one by one
rather than as a transition, and Adam's closure is plain NumPy. The linear recursion is compiled
only so that it can be run on many modes.
"""

import numba
import numpy as np


@numba.njit
def _linear(h, noise, weight, second_moment, rates, mu, nesterov, power, gamma):
    n_steps = rates.size
    risks = np.zeros(n_steps + 1)
    for i in np.flatnonzero(weight > 0.0):
        k = h[i] ** (1.0 - power)  # P g = k theta + eps, and v is the variance of eps
        v = noise[i] * h[i] ** (-2.0 * power)
        tt = second_moment[i]  # E theta^2
        tu = 0.0  # E theta u
        uu = 0.0  # E u^2
        ee = tt  # E e^2, with e_0 = theta_0
        et = tt  # E e theta
        eu = 0.0  # E e u
        risks[0] += weight[i] * ee
        for t in range(1, n_steps + 1):
            lr = rates[t - 1]
            tu_new = mu * tu + k * tt  # E theta u', with the old theta
            eu_new = mu * eu + k * et  # E e u', with the old e
            uu = mu * mu * uu + 2.0 * mu * k * tu + k * k * tt + v
            if nesterov:
                # theta' = (1 - lr k) theta - lr mu u' - lr eps, and E u' eps = v
                r = 1.0 - lr * k
                tt = (
                    r * r * tt
                    - 2.0 * r * lr * mu * tu_new
                    + lr * lr * (mu * mu * uu + 2.0 * mu * v + v)
                )
                tu = r * tu_new - lr * mu * uu - lr * v
                et_new = r * et - lr * mu * eu_new
            else:
                tt = tt - 2.0 * lr * tu_new + lr * lr * uu
                tu = tu_new - lr * uu
                et_new = et - lr * eu_new
            ee = gamma * gamma * ee + 2.0 * gamma * (1.0 - gamma) * et_new + (1.0 - gamma) ** 2 * tt
            et = gamma * et_new + (1.0 - gamma) * tt
            eu = gamma * eu_new + (1.0 - gamma) * tu
            risks[t] += weight[i] * ee
    return risks


def linear_risks(problem, optimizer, n_steps, factors=None):
    """L_0 .. L_n of a linear optimizer, over every mode; the factors multiply its rate."""
    spectrum = problem.spectrum
    return _linear(
        np.array(spectrum.curvature),
        spectrum.noise / problem.batch_size,
        0.5 * spectrum.multiplicity * spectrum.curvature,
        spectrum.initial_mean**2 + spectrum.initial_variance,
        optimizer.learning_rate * (np.ones(n_steps) if factors is None else np.array(factors)),
        float(optimizer.momentum),
        bool(optimizer.nesterov),
        float(optimizer.preconditioner_power),
        float(optimizer.ema_decay),
    )


def adam_risks(nodes, optimizer, n_steps, factors=None, sizes=None, label_noise=None):
    """L_0 .. L_n of Adam's closure from given curvatures, noise, weights and starts.

    Where a label noise is given, it is that of least squares with batches of the sizes, and what
    the nodes have of noise is of one example.
    """
    rates = optimizer.learning_rate * (np.ones(n_steps) if factors is None else np.array(factors))
    b1, b2 = optimizer.beta1, optimizer.beta2
    h, noise = nodes.curvature, nodes.variance
    A = nodes.second_moment
    start = mean = np.sqrt(A)  # theta_0 and E theta, for the pull of weight decay
    mean_m = np.zeros_like(A)
    Q, D, V = np.zeros_like(A), np.zeros_like(A), np.zeros_like(A)
    risks = [np.sum(nodes.weight * A)]
    for t in range(1, n_steps + 1):
        q = h**2 * A + noise
        if label_noise is not None:
            level = 2 * risks[-1] + label_noise
            q = h**2 * A * (1 + 1 / sizes[t - 1]) + noise * level / sizes[t - 1]
        V = b2 * V + (1 - b2) * q
        r = rates[t - 1] / (1 - b1**t) / (np.sqrt(V / (1 - b2**t)) + optimizer.eps)
        Q = b1**2 * Q + 2 * b1 * (1 - b1) * h * D + (1 - b1) ** 2 * q
        F = b1 * D + (1 - b1) * h * A
        # m' moves what is left of theta, kept theta + pull, to which it has the correlation F.
        w = rates[t - 1] * optimizer.weight_decay
        kept, pull = 1 - w, w * start
        mean_m = b1 * mean_m + (1 - b1) * h * mean
        A = kept**2 * A + 2 * kept * pull * mean + pull**2
        F = kept * F + pull * mean_m
        mean = kept * mean + pull - r * mean_m
        A = A - 2 * r * F + r**2 * Q
        D = F - r * Q
        risks.append(np.sum(nodes.weight * A))
    return np.array(risks)


def first_at_most(risks, target):
    """The first index whose risk is at most the target; None where there is none."""
    hits = np.flatnonzero(risks <= target)
    return int(hits[0]) if hits.size else None
