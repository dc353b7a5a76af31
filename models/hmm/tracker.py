"""The behaviour of one animal, fix by fix, each taken when it comes.

The pipeline, which has the whole window at hand, asks ``Variant.steps``; both say the same of the same fixes. A tracker
keeps its last fixes, so that one that comes late is put in its place and the window from there on is computed anew: any
order of arrival within the window ends in the same states. A fix older than the window changes nothing and is counted.
"""

from __future__ import annotations

import bisect
import math
from typing import Final

import msgspec
import numpy as np

from models.hmm import chain
from models.hmm.features import FloatArray, IntArray, regular_chain
from models.hmm.runtime import FINE_NAT, LAG, LEAST_NAT, StepState, Variant, nats, normalised_log
from shared.movement.geodesy import step_lengths_m, turning_angles_rad

#: Steps that a tracker keeps.
WINDOW: Final = 96


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What a fix changed: states to say anew, and ends of steps that are no more (another fix was nearer)."""

    changed: tuple[StepState, ...]
    removed_ended_at_s: tuple[float, ...]


class _Node:
    """A fix that is kept, and, unless it begins a burst, the step that ends at it with the chain's state after it."""

    __slots__ = (
        "angle_rad",
        "evidence",
        "filtered",
        "is_begin",
        "lat_deg",
        "likelihood",
        "lon_deg",
        "step_m",
        "time_s",
        "units",
    )

    def __init__(self, fix: tuple[float, float, float], *, is_begin: bool) -> None:
        self.time_s, self.lon_deg, self.lat_deg = fix
        self.is_begin = is_begin
        self.step_m = math.nan
        self.angle_rad = math.nan
        self.evidence = 0.0
        self.units: IntArray
        self.likelihood: FloatArray
        self.filtered: FloatArray


class Tracker:
    """The states of one animal, fix by fix.

    Give it usable fixes alone. ``n_too_late`` counts fixes older than the window, ``n_repeated`` those at an instant
    that is already taken; neither changes anything.
    """

    def __init__(self, variant: Variant, *, lag: int = LAG, window: int = WINDOW) -> None:
        if lag < 0 or window < 2 * lag + 4:
            raise ValueError("the window must hold more than twice the lag")
        self.variant = variant
        self.lag = lag
        self.n_too_late = 0
        self.n_repeated = 0
        self._window = window
        self._tolerance_s = variant.tolerance * variant.interval_s
        self._transitions = np.exp(normalised_log(nats(variant.log_transitions)))
        self._stationary = np.exp(normalised_log(nats(variant.log_stationary)))
        self._fixes: list[tuple[float, float, float]] = []
        self._nodes: list[_Node] = []
        # The first nodes of a window that was cut: no longer altered, they carry the chain and the heading into it.
        self._n_frozen = 0

    def add(self, time_s: float, lon_deg: float, lat_deg: float) -> Update:
        """Take a fix, in any order; return what differs from what was said before."""
        if self._n_frozen and time_s < self._fixes[0][0]:
            self.n_too_late += 1
            return Update(changed=(), removed_ended_at_s=())
        at = bisect.bisect_left(self._fixes, (time_s, -math.inf, -math.inf))
        if at < len(self._fixes) and self._fixes[at][0] == time_s:
            self.n_repeated += 1
            return Update(changed=(), removed_ended_at_s=())
        self._fixes.insert(at, (float(time_s), float(lon_deg), float(lat_deg)))
        first, removed = self._rebuild(time_s)
        present = {node.time_s for node in self._nodes[first:] if not node.is_begin}
        changed: tuple[StepState, ...] = ()
        if first < len(self._nodes) or removed:
            changed = tuple(self._states(max(self._n_frozen, first - self.lag), len(self._nodes)))
        self._trim()
        return Update(changed=changed, removed_ended_at_s=tuple(sorted(removed - present)))

    def states(self) -> list[StepState]:
        """Return every step of the window."""
        return self._states(self._n_frozen, len(self._nodes))

    def shown(self) -> StepState | None:
        """Return the newest step that has all its later steps; in a burst too young for that, its first step."""
        at = len(self._nodes) - 1
        while at >= self._n_frozen and self._nodes[at].is_begin:
            at -= 1
        if at < self._n_frozen:
            return None
        for _ in range(self.lag):
            if at == self._n_frozen or self._nodes[at - 1].is_begin:
                break
            at -= 1
        return self._states(at, at + 1)[0]

    def viterbi(self) -> list[str]:
        """Return the most likely states of the window's steps, given what came before it."""
        steps = [i for i in range(self._n_frozen, len(self._nodes)) if not self._nodes[i].is_begin]
        if not steps:
            return []
        starts = [row for row, i in enumerate(steps) if row == 0 or self._nodes[i - 1].is_begin]
        emissions = np.stack([self._nodes[i].units for i in steps])
        start = self.variant.log_stationary.astype(np.int64)
        before = self._nodes[steps[0] - 1]
        if not before.is_begin:
            # The first row continues a burst: its prior goes into its emissions in place of the stationary one.
            ahead = np.log(np.maximum(before.filtered @ self._transitions, math.exp(LEAST_NAT)))
            emissions[0] += np.rint(ahead / FINE_NAT).astype(np.int64) - start
        path = chain.viterbi(
            start, self.variant.log_transitions.astype(np.int64), emissions, np.array(starts, dtype=np.int64)
        )
        return [self.variant.state_names[state] for state in path.tolist()]

    def _rebuild(self, time_s: float) -> tuple[int, set[float]]:
        """Bring the nodes up to date with a new fix; return the first that is new, and the ends of steps that went.

        The fix can replace the last node before it, which the node before that one chose; no earlier choice saw it,
        because the tolerance is below a third of the interval.
        """
        nodes = self._nodes
        n_before = bisect.bisect_left(nodes, time_s, key=lambda node: node.time_s)
        restart = max(0, self._n_frozen - 1, n_before - 2)
        from_fix = 0
        if n_before and restart < len(nodes):
            from_fix = bisect.bisect_left(self._fixes, (nodes[restart].time_s, -math.inf, -math.inf))
        else:
            restart = 0
        tail = self._fixes[from_fix:]
        kept, begins = regular_chain([fix[0] for fix in tail], self.variant.interval_s, self._tolerance_s)
        if n_before:
            begins[0] = nodes[restart].is_begin
        same = restart
        for i, is_begin in zip(kept, begins, strict=True):
            if same == len(nodes) or nodes[same].time_s != tail[i][0] or nodes[same].is_begin != is_begin:
                break
            same += 1
        removed = {node.time_s for node in nodes[same:] if not node.is_begin}
        del nodes[same:]
        for i, is_begin in list(zip(kept, begins, strict=True))[same - restart :]:
            node = _Node(tail[i], is_begin=is_begin)
            if not is_begin:
                self._filter(node)
            nodes.append(node)
        return same, removed

    def _filter(self, node: _Node) -> None:
        """Work out the step from the last node to this one, and the chain's state after it."""
        previous = self._nodes[-1]
        points = [previous, node] if previous.is_begin else [self._nodes[-2], previous, node]
        lon = np.array([point.lon_deg for point in points])
        lat = np.array([point.lat_deg for point in points])
        node.step_m = float(step_lengths_m(lon[-2:], lat[-2:])[0])
        if len(points) == 3:
            node.angle_rad = float(turning_angles_rad(lon, lat)[0])
        node.units = self.variant.log_densities(np.array([node.step_m]), np.array([node.angle_rad]))[0]
        peak = int(node.units.max())
        node.likelihood = np.exp(nats(node.units - peak))
        ahead = self._stationary if previous.is_begin else previous.filtered @ self._transitions
        joint = ahead * node.likelihood
        total = float(joint.sum())
        node.filtered = joint / total
        node.evidence = math.log(total) + peak * FINE_NAT

    def _states(self, begin: int, end: int) -> list[StepState]:
        nodes = self._nodes
        result: list[StepState] = []
        for t in range(begin, end):
            node = nodes[t]
            if node.is_begin:
                continue
            last = t
            while last - t < self.lag and last + 1 < len(nodes) and not nodes[last + 1].is_begin:
                last += 1
            later = np.ones(self.variant.n_states)
            for u in range(last, t, -1):
                later = self._transitions @ (nodes[u].likelihood * later)
                later /= later.max()
            posterior = node.filtered * later
            posterior = posterior / posterior.sum()
            best = int(posterior.argmax())
            result.append(
                StepState(
                    started_at_s=nodes[t - 1].time_s,
                    ended_at_s=node.time_s,
                    step_m=node.step_m,
                    angle_rad=None if math.isnan(node.angle_rad) else node.angle_rad,
                    state=self.variant.state_names[best],
                    confidence=float(posterior[best]),
                    smoothed=tuple(posterior.tolist()),
                    filtered=tuple(node.filtered.tolist()),
                    lag=last - t,
                    is_settled=last - t == self.lag or last + 1 < len(nodes),
                    log_likelihood=node.evidence,
                )
            )
        return result

    def _trim(self) -> None:
        """Forget what lies before the window, but for two nodes; in strides, most fixes need no new list."""
        n_over = len(self._nodes) - self._n_frozen - self._window
        if n_over < self._window // 4:
            return
        del self._nodes[: n_over + self._n_frozen - 2]
        self._n_frozen = 2
        at = bisect.bisect_left(self._fixes, (self._nodes[1].time_s, -math.inf, -math.inf))
        del self._fixes[:at]
