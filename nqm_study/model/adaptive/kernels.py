"""Compiled steps of Adam: of its closure's moments (symbols in closure.py), and of replicas."""

from __future__ import annotations

import math

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import compiled, compiled_within

Moments = tuple[float, float, float, float, float, float]
"""A, Q, D and V of one node, and P and U, which only a pull changes."""
Rule = tuple[float, float, float, float, float, float]
"""Learning rate, beta1, beta2, eps, and the natural logarithms of the betas."""

Mode = tuple[float, float, float]
"""h, c / B and theta_0^2 of one node."""
Pull = float | None
"""Learning rate times weight decay; for None, no decay, kernels are compiled without any of it."""
Noises = tuple[float, float, float, float] | None
"""What multiplies c / B, and how often h^2 A counts as noise, after t steps as lines, each by its
value at t = 0 and its slope: B / B_t and 0 or, where noise falls with the loss, (B / B_t) (2 L +
label noise) and 1 / B_t. None, likewise, where they are 1 and 0."""
Coupling = tuple[float, float] | None
"""1 / B and the label noise, where noise falls with the loss; None, likewise, where it does not."""

SHORTEST = 16
"""Stretches shorter than this are stepped through: a step costs less than its share of a jump."""

MOST_WORK = 2048
"""Steps, or jumps at the cost of eight, that a node may take in one call before it is held."""

SLACK = 1e-4
"""Relative change of the mean rate of a stretch below which it is not corrected again."""

LIKELY = 1e-2
"""Relative error that what a stretch takes A to end at may have, times the share of the noise that
follows it."""

CLOSE_BEHIND, CLOSER = 0.5, 0.1
"""Where A falls by e in so few stretches, the rate may change by this share of the tolerance."""

GONE = -40.0
"""Natural logarithm of what is lost in rounding beside 1."""


@compiled
def adam_run(
    n_steps: int, first_step: int, optimizer: tuple[float, float, float, float], factors: Array,
    noises: Array, pull: Pull, coupling: Coupling, curvature: Array, variance: Array, square: Array,
    weight: Array, state: Array, target: float,
) -> tuple[int, float, float, int]:  # fmt: skip
    """Advance the conditional moments of closure.py by n_steps, or to the first risk <= target.

    ``state`` holds A, Q, D, V, P and U of each node, shape (6, n), and is advanced in place.
    ``first_step`` is how many steps came before. ``factors`` multiply the learning rate, one for
    each of the steps to come; an empty array stands for 1. ``noises`` multiply the variance, one
    for each of the steps or one for all.

    Returns:
        steps taken, the smallest and the largest risk seen, 1 if the target was reached.
    """
    learning_rate, b1, b2, eps = optimizer
    n = curvature.size
    best, highest, risk = np.inf, 0.0, 0.0
    if coupling is not None:
        for k in range(n):
            risk += weight[k] * state[0, k]
    for i in range(n_steps):
        t = first_step + i + 1
        root = np.sqrt(-np.expm1(t * np.log(b2))) if b2 > 0.0 else 1.0
        correction = -np.expm1(t * np.log(b1)) if b1 > 0.0 else 1.0
        factor = factors[i] if factors.size > 0 else 1.0
        noise = noises[min(i, noises.size - 1)]
        rate, small = factor * learning_rate * root / correction, eps * root
        if coupling is not None:
            own, noise = 1.0 + noise * coupling[0], noise * (2.0 * risk + coupling[1])
        risk = 0.0
        for k in range(n):
            h, a, q2, d = curvature[k], state[0, k], state[1, k], state[2, k]
            q = h * h * a
            if coupling is not None:
                q *= own
            q += noise * variance[k]
            v = b2 * state[3, k] + (1.0 - b2) * q
            # A mode that has neither signal nor noise left has nothing to move: 0 / 0 is 0 there.
            # The bound keeps r^2 finite.
            root_v = np.sqrt(v) + small
            r = rate / root_v if root_v > 1e-150 else 0.0
            q2 = b1 * b1 * q2 + 2.0 * b1 * (1.0 - b1) * h * d + (1.0 - b1) * (1.0 - b1) * q
            f = b1 * d + (1.0 - b1) * h * a
            if pull is not None:
                step = (factor * pull, r, b1)
                a, f, state[4, k], state[5, k] = _pulled(
                    step, h, square[k], a, f, state[4, k], state[5, k]
                )
            # Without noise, rounding could leave a square below zero, and its root undefined.
            a = max(a - 2.0 * r * f + r * r * q2, 0.0)
            state[0, k] = a
            state[1, k] = q2
            state[2, k] = f - r * q2
            state[3, k] = v
            risk += weight[k] * a
        best = min(best, risk)
        if not risk <= highest:  # an overflow is the highest
            highest = risk
        if risk <= target:
            return i + 1, best, highest, 1
    return n_steps, best, highest, 0


@compiled_within
def _pulled(
    step: tuple[float, float, float], h: float, square: float, a: float, f: float, p: float,
    u: float,
) -> tuple[float, float, float, float]:  # fmt: skip
    """A and F where the pull of a step has moved theta, and P and U after the step.

    The step is its pull w, its rate r, and beta1.
    """
    w, r, b1 = step
    kept, u = 1.0 - w, b1 * u + (1.0 - b1) * h * p
    a = kept * kept * a + 2.0 * kept * w * p + w * w * square
    return a, kept * f + w * u, kept * p + w * square - r * u, u


@compiled
def adam_jump(
    first_step: int, length: int, optimizer: tuple[float, float, float, float],
    line: tuple[float, float], noises: Noises, pull: Pull, curvature: Array, variance: Array,
    square: Array, state: Array, sizes: Integers, tolerance: float,
) -> int:  # fmt: skip
    """Advance the conditional moments of closure.py by ``length`` steps in stretches, node by node.

    Args:
        first_step: steps that came before.
        length: steps to take.
        optimizer: learning rate, beta1, beta2, eps.
        line: what multiplies the learning rate at the first of the steps, and by how much that
            changes from step to step.
        noises: lines that are at least 0 at all of the steps.
        pull: where weights decay.
        curvature: h of each node.
        variance: c / B of each node.
        square: theta_0^2 of each node.
        state: A, Q, D, V, P and U of each node, shape (6, n); advanced in place.
        sizes: the length of each node's next stretch, a power of two; in place. 0 marks a node that
            did not come to the end: what its rate does is no more a motion than a vibration, and it
            is held at its mean.
        tolerance: the most that a rate may change in a stretch, relative.

    Returns:
        the work done, over all nodes: steps, and eight for each stretch.
    """
    learning_rate, b1, b2, eps = optimizer
    log1 = math.log(b1) if b1 > 0.0 else -np.inf
    log2 = math.log(b2) if b2 > 0.0 else -np.inf
    rule = (learning_rate, b1, b2, eps, log1, log2)
    done = 0
    for k in range(curvature.size):
        mode = (curvature[k], variance[k], square[k])
        moments = (state[0, k], state[1, k], state[2, k], state[3, k], state[4, k], state[5, k])
        now, left, size = first_step, length, max(sizes[k], SHORTEST)
        rate = _rate(now, rule, noises, mode, moments)
        trend = _trend(now, rule, noises, mode, moments, rate)
        work, counted, sum_a, sum_v, sum_p = 0, 0, 0.0, 0.0, 0.0
        while left > 0 and work < MOST_WORK:
            while size > left:
                size //= 2
            factor = line[0] + line[1] * (now - first_step)
            taken = 0
            if size < SHORTEST:
                taken = min(left, SHORTEST)
                moments, end = _steps(
                    taken, now, (factor, line[1]), rule, noises, pull, mode, moments, rate
                )
                work += taken
                size = SHORTEST if abs(end - rate) <= tolerance * rate else SHORTEST // 2
                trend, rate = (end - rate) / taken, end
            else:
                accepted, after, end = _stretch(
                    size, now, (factor, line[1]), rule, noises, pull, mode, moments, rate, trend,
                    tolerance,
                )  # fmt: skip
                work += 8
                if accepted:
                    taken, moments = size, after
                    size = 2 * size if abs(end - rate) <= 0.3 * tolerance * rate else size
                    trend, rate = (end - rate) / taken, end
                else:
                    size //= 2
            now += taken
            left -= taken
            if 2 * work > MOST_WORK:
                counted += taken
                sum_a += taken * moments[0]
                sum_v += taken * moments[3]
                sum_p += taken * moments[4]
        for i in range(6):
            state[i, k] = moments[i]
        sizes[k] = size
        if left > 0:
            sizes[k] = 0
            if counted > 0:
                state[0, k], state[3, k] = sum_a / counted, sum_v / counted
                state[4, k] = sum_p / counted
        done += work
    return done


@compiled_within
def _rate(t: int, rule: Rule, noises: Noises, mode: Mode, moments: Moments) -> float:
    """The rate r of the step after t steps, without the schedule's factor."""
    learning_rate, _, b2, eps, log1, log2 = rule
    root = math.sqrt(-math.expm1((t + 1) * log2)) if (t + 1) * log2 > GONE else 1.0
    correction = -math.expm1((t + 1) * log1) if (t + 1) * log1 > GONE else 1.0
    v = b2 * moments[3] + (1.0 - b2) * _moment(t, noises, mode, moments[0])
    below = math.sqrt(v) + eps * root
    return learning_rate * root / correction / below if below > 1e-150 else 0.0


@compiled_within
def _moment(t: int, noises: Noises, mode: Mode, a: float) -> float:
    """The second moment of the gradient of the step after t steps."""
    h, noise, _ = mode
    if noises is not None:
        # Rounding could leave the end of a line below zero.
        noise *= max(noises[0] + noises[1] * t, 0.0)
        noise += h * h * a * (noises[2] + noises[3] * t)
    return h * h * a + noise


@compiled_within
def _trend(t: int, rule: Rule, noises: Noises, mode: Mode, moments: Moments, rate: float) -> float:
    """The change of the rate at the next step, for which only V has to move."""
    b2 = rule[2]
    a, q, d, v, p, u = moments
    moved = b2 * v + (1.0 - b2) * _moment(t, noises, mode, a)
    return _rate(t + 1, rule, noises, mode, (a, q, d, moved, p, u)) - rate


@compiled_within
def _steps(
    count: int, now: int, line: tuple[float, float], rule: Rule, noises: Noises, pull: Pull,
    mode: Mode, moments: Moments, rate: float,
) -> tuple[Moments, float]:  # fmt: skip
    """The moments of one node after some single steps, and the rate then."""
    b1, b2 = rule[1], rule[2]
    h, _, square = mode
    a, q, d, v, p, u = moments
    for i in range(count):
        r = (line[0] + line[1] * i) * rate
        moment = _moment(now + i, noises, mode, a)
        v = b2 * v + (1.0 - b2) * moment
        q = b1 * b1 * q + 2.0 * b1 * (1.0 - b1) * h * d + (1.0 - b1) * (1.0 - b1) * moment
        f = b1 * d + (1.0 - b1) * h * a
        if pull is not None:
            step = ((line[0] + line[1] * i) * pull, r, b1)
            a, f, p, u = _pulled(step, h, square, a, f, p, u)
        a = max(a - 2.0 * r * f + r * r * q, 0.0)
        d = f - r * q
        rate = _rate(now + i + 1, rule, noises, mode, (a, q, d, v, p, u))
    return (a, q, d, v, p, u), rate


@compiled_within
def _stretch(
    size: int, now: int, line: tuple[float, float], rule: Rule, noises: Noises, pull: Pull,
    mode: Mode, moments: Moments, rate: float, trend: float, tolerance: float,
) -> tuple[bool, Moments, float]:  # fmt: skip
    """The moments of one node after a stretch in which its rate hardly changes, if it does not.

    In it r is the mean over the stretch, by Simpson's rule, of the rates that the stretch itself
    leads to. Where it changes, the first half has a third of the change less and the second a third
    more, which makes it of fourth order (the commutator-free Magnus integrator, Blanes and Moan
    2006). What of the noise follows A is taken on a line as well, to the end that it leads to.

    Returns:
        Whether the rate stays within the tolerance, the moments, and the rate then.
    """
    slope = line[1]
    factor = line[0] + 0.5 * (size - 1) * slope
    mean, change, end = rate + 0.5 * (size - 1) * trend, size * trend, rate
    # Where A follows the schedule, its rate and noise may change no more than r. Where A is close
    # behind, it is that of the rate at the end, which the mean of a half is a little off.
    decay = factor * mean * mode[0] * size
    if pull is not None:
        decay += factor * pull * size
    if abs(slope) * size > tolerance * factor and decay > tolerance:
        return False, moments, end
    if noises is not None:
        noise = noises[0] + noises[1] * (now + 0.5 * (size - 1))
        if abs(noises[1]) * size > tolerance * noise and decay > tolerance:
            return False, moments, end
    if decay > CLOSE_BEHIND:
        tolerance *= CLOSER
    entering, last, known = (mode[1], 0.0), moments[0], True
    # The rate that a stretch leads to, put in again, hardly changes any more.
    for _ in range(4):
        r = max(factor * mean + slope * change * size / 12.0, 0.0)
        turn = (factor * change + slope * size * mean) / 3.0
        shares = (factor, slope * size / 3.0)
        if noises is not None:
            entering = _entering(size, now, noises, mode, moments[0], last)
        middle, after = _twice(size // 2, r, turn, rule, entering, pull, shares, mode, moments)
        if noises is not None:
            middle, after = _on_line(size // 2, entering[1], rule, middle, after)
            own = noises[2] + noises[3] * now
            known = abs(after[0] - last) * own <= LIKELY * after[0]
            last = after[0]
        half_way = _rate(now + size // 2, rule, noises, mode, middle)
        end = _rate(now + size, rule, noises, mode, after)
        bend = abs(2.0 * half_way - rate - end)
        if not (abs(end - rate) <= tolerance * rate and bend <= 0.25 * tolerance * rate):
            return False, moments, end
        found = (rate + 4.0 * half_way + end) / 6.0 - 0.5 * (end - rate) / size
        if abs(found - mean) <= SLACK * rate and known:
            return True, after, end
        mean, change = found, end - rate
    return False, moments, end


@compiled_within
def _entering(
    size: int, now: int, noises: tuple[float, float, float, float], mode: Mode, first: float,
    last: float,
) -> tuple[float, float]:  # fmt: skip
    """The mean noise of a node in a stretch, and its slope; A is on a line from first to last."""
    h, noise, _ = mode
    middle, mean = now + 0.5 * (size - 1), 0.5 * (first + last)
    share = noises[2] + noises[3] * middle
    return (
        noise * (noises[0] + noises[1] * middle) + h * h * mean * share,
        noise * noises[1] + h * h * (share * (last - first) / size + mean * noises[3]),
    )


@compiled_within
def _twice(
    half: int, r: float, turn: float, rule: Rule, noise: tuple[float, float], pull: Pull,
    line: tuple[float, float], mode: Mode, moments: Moments,
) -> tuple[Moments, Moments]:  # fmt: skip
    """The moments after ``half`` steps at the rate r - turn, and as many more at r + turn.

    At a rate that does not change, theta and m move by a 2 x 2 matrix T, and their second moments
    and V by an affine map: what T makes of A, D and Q, what noise of variance 1 adds to them, and
    the row by which A, D and Q of the start go into V. The map of 2 k steps is that of k steps
    after itself. The noise is its mean, and by how much it grows with each step; the halves have as
    much less and more of it as they have of the rate.

    A pull, whose factor is in ``line``, with what the second half has more of it than both have on
    average, makes w = factor pull and leaves theta_0 w / (w + r h) as it is. About that point
    theta and m move by a T that w is part of, and V has a row for P and U too.
    """
    b1, b2 = rule[1], rule[2]
    h, _, square = mode
    gain, e = 1.0 - b1, (1.0 - b1) * (1.0 - b1)
    uneven, after = abs(turn) > 1e-3 * r, moments
    if pull is not None:
        uneven = uneven or abs(line[1]) > 1e-3 * line[0]
    for part in range(2):
        # A rate that hardly changes has one map for both halves.
        if part == 0 or uneven:
            rate = max(r - turn if part == 0 else r + turn, 0.0) if uneven else r
            t0, t1, t2, t3 = 1.0 - rate * gain * h, -rate * b1, gain * h, b1
            na, nd, nq = rate * rate * e, -rate * e, e
            va, vd, vq, vn, fade = (1.0 - b2) * h * h, 0.0, 0.0, 1.0 - b2, b2
            if pull is not None:
                aside = (line[1] if part == 1 else -line[1]) if uneven else 0.0
                w = max(line[0] + aside, 0.0) * pull
                share = w / (w + rate * h) if w > 0.0 else 0.0
                t0 -= w
                vp, vu = 2.0 * va * share, 0.0
            steps = 1
            while True:
                aa, ad, aq = t0 * t0, 2.0 * t0 * t1, t1 * t1
                da, dd, dq = t0 * t2, t0 * t3 + t1 * t2, t1 * t3
                qa, qd, qq = t2 * t2, 2.0 * t2 * t3, t3 * t3
                if steps >= half:
                    break
                vn += fade * vn + va * na + vd * nd + vq * nq
                if pull is not None:
                    vp, vu = fade * vp + vp * t0 + vu * t2, fade * vu + vp * t1 + vu * t3
                va, vd, vq = (
                    fade * va + va * aa + vd * da + vq * qa,
                    fade * vd + va * ad + vd * dd + vq * qd,
                    fade * vq + va * aq + vd * dq + vq * qq,
                )
                na, nd, nq = (
                    na + aa * na + ad * nd + aq * nq,
                    nd + da * na + dd * nd + dq * nq,
                    nq + qa * na + qd * nd + qq * nq,
                )
                cross, trace = t1 * t2, t0 + t3
                t0, t1, t2, t3 = aa + cross, t1 * trace, t2 * trace, qq + cross
                fade *= fade
                steps *= 2
        entering = noise[0] + noise[1] * (half / 1.5 if part == 1 else -half / 1.5)
        middle = after
        a, q, d, v, p, u = middle
        if pull is not None:
            a, q, d, p, u = _about(share, h, square, a, q, d, p, u)
        a, q, d, v = (
            max(aa * a + ad * d + aq * q + entering * na, 0.0),
            qa * a + qd * d + qq * q + entering * nq,
            da * a + dd * d + dq * q + entering * nd,
            fade * v + va * a + vd * d + vq * q + entering * vn,
        )
        if pull is not None:
            v += vp * p + vu * u + (1.0 - fade) * h * h * share * share * square
            p, u = t0 * p + t1 * u, t2 * p + t3 * u
            a, q, d, p, u = _about(-share, h, square, a, q, d, p, u)
            a = max(a, 0.0)
        after = (a, q, d, v, p, u)
    return middle, after


@compiled_within
def _on_line(
    half: int, rise: float, rule: Rule, middle: Moments, after: Moments
) -> tuple[Moments, Moments]:
    """The moments of ``_twice`` where V has its noise step by step, on a line that rises.

    A stretch may be longer than V's memory, at whose end two levels of noise would be far off. What
    V has of noise directly is exact: of 1 it is 1 - b2^k, and of i at step i it is the steps k less
    (1 - b2^k) / (1 - b2). A level is a third of the change off the middle, a half's mean a quarter.
    """
    level = -math.expm1(half * rule[5])
    line = rise * (half - level / (1.0 - rule[2]) - 0.5 * (half - 1) * level)
    off = rise * half * level / 6.0
    a, q, d, v, p, u = after
    after = (a, q, d, v + (1.0 - level) * (line + off) + line - off, p, u)
    a, q, d, v, p, u = middle
    return (a, q, d, v + line + off, p, u), after


@compiled_within
def _about(
    share: float, h: float, square: float, a: float, q: float, d: float, p: float, u: float
) -> tuple[float, float, float, float, float]:
    """A, Q, D, P and U where theta is less a share of theta_0, and m less h times that."""
    part = share * square
    return (
        a - share * (2.0 * p - part),
        q - h * share * (2.0 * u - h * part),
        d - share * (u + h * (p - part)),
        p - part,
        u - h * part,
    )


@compiled
def adam_rest(
    learning_rate: float, decay: float, b1: float, eps: float, curvature: Array, variance: Array,
    own: float, square: Array,
) -> Array:  # fmt: skip
    """E theta^2 at rest of each node: see ``run.stationary``; the noise has h^2 A ``own`` times.

    The left side of the equation of the floor, minus the right, grows with A (over h^2 A + c/B, if
    weights decay): bisection finds the root, on a log scale.
    """
    w = learning_rate * decay
    kept = b1 * (1.0 - w)
    found = np.empty(curvature.size)
    for k in range(curvature.size):
        h = curvature[k]
        low, high = -744.0, 709.0  # logarithms of the smallest and the largest number
        for _ in range(48):
            middle = 0.5 * (low + high)
            a = np.exp(middle)
            noise = variance[k] + own * h * h * a
            below = np.sqrt(h * h * a + noise) + eps
            r, pull = learning_rate / below, decay * below
            room = 2.0 + 2.0 * b1 - w * (1.0 + b1) - r * (1.0 - b1) * h
            free = a - (pull / (h + pull)) ** 2 * square[k]
            share = (1.0 - b1) / (1.0 - kept)
            if room <= 0.0 or (h + pull) * free * room < share * r * noise * (1.0 + kept):
                low = middle
            else:
                high = middle
        found[k] = np.exp(high)
    return found


@compiled
def adam_chains(
    optimizer: tuple[float, float, float], pull: tuple[Array, Array] | None, rates: Array,
    scales: Array, scatters: Array, curvature: Array, deviation: Array, weight: Array, noise: Array,
    places: Integers, share: Array, state: Array, risks: Array,
) -> None:  # fmt: skip
    """Take some steps of Adam with every replica of every mode.

    Args:
        optimizer: beta1, beta2 and eps.
        pull: where weights decay, lr wd of each step, and every replica's start.
        rates: lr / (1 - beta1^t) of each step.
        scales: 1 / sqrt(1 - beta2^t) of each step.
        scatters: what multiplies the deviation at each step.
        curvature: h.
        deviation: sqrt(c / B).
        weight: 1/2 m h.
        noise: standard normal numbers, twice as many as there are replicas of all modes.
        places: where in ``noise`` each step begins to read.
        share: of each replica in the mean of its group, shape (modes, groups, replicas).
        state: theta, m and v, shape (3, modes, groups, replicas of a group); advanced in place.
        risks: receives each group's risk after each step, shape (steps, groups).
    """
    b1, b2, eps = optimizer
    _, modes, groups, replicas = state.shape
    risks[:] = 0.0
    for part in range(modes * groups):
        k, group = part // groups, part % groups
        theta, m, v = state[0, k, group], state[1, k, group], state[2, k, group]
        shares = share[k, group]
        h = curvature[k]
        for i in range(rates.size):
            place = places[i] + part * replicas
            drawn = noise[place : place + replicas]
            rate, scale, scatter = rates[i], scales[i], deviation[k] * scatters[i]
            total = 0.0
            for r in range(replicas):
                g = h * theta[r] + scatter * drawn[r]
                m[r] = b1 * m[r] + (1.0 - b1) * g
                v[r] = b2 * v[r] + (1.0 - b2) * g * g
                if pull is not None:
                    theta[r] -= pull[0][i] * (theta[r] - pull[1][k, group, r])
                # A mode without gradient has nothing to move: 0 / 0 is 0 there.
                theta[r] -= rate * m[r] / max(np.sqrt(v[r]) * scale + eps, 1e-150)
                total += shares[r] * theta[r] * theta[r]
            risks[i, group] += weight[k] * total
