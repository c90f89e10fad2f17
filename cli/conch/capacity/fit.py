"""Fits costs to measurements: non-negative least squares of relative errors."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from conch.simulation.costs import EngineCosts, GatewayCosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from conch.capacity.profile import CallLoad, RequestLoad


def engine_costs(
    calls: Sequence[CallLoad], instances: int, max_rows: int, *, shared_cores: bool
) -> tuple[EngineCosts, float]:
    """Return the costs of calls, and the largest relative error of the times of lone runs that they give.

    Args:
        calls: Lone calls and calls under load, of several lengths.
        instances: Instances of the encoder.
        max_rows: Most texts of a run.
        shared_cores: Whether the sender of the calls ran on the same cores as the instances.
    """
    lone = [call for call in calls if call.clients == 1]
    columns = [[1.0, call.rows, call.rows * call.tokens, call.rows * call.tokens**2] for call in lone]
    measured = [call.run_ms / 1e3 for call in lone]
    fixed_s, row_s, token_s, square_s = nonnegative(columns, measured)
    run = EngineCosts(instances, max_rows, fixed_s, row_s, token_s, square_s, 0.0, 0.0, 0.0, 1.0)
    loaded = [call for call in calls if call.clients > instances]
    slowdown, call_s = _under_load(run, loaded)
    if shared_cores:
        client_s = fmean(call.client_ms for call in loaded) / 1e3
        call_s = max(0.0, call_s - client_s / slowdown)
    off = max(abs(_run_s(run, call, call.rows) / each - 1) for call, each in zip(lone, measured, strict=True))

    def path_of(loads: Sequence[CallLoad], slower: float) -> float:
        return _middle(
            (each.latency_ms["p50"] - each.client_ms) / 1e3 - slower * (call_s + _run_s(run, each, each.rows))
            for each in loads
        )

    path_s = path_of(lone, 1.0)
    # With as many clients as instances, all cores are busy, and no call waits for an instance.
    busy_path_s = path_of([call for call in calls if call.clients == instances], slowdown)
    return replace(run, call_s=call_s, path_s=path_s, busy_path_s=max(path_s, busy_path_s), slowdown=slowdown), off


def gateway_costs(requests: Sequence[RequestLoad], engine: EngineCosts, *, shared_cores: bool) -> GatewayCosts:
    """Return the costs of requests with one text.

    Args:
        requests: Measurements, of lone requests and under load.
        engine: Costs of the Triton behind the gateway.
        shared_cores: Whether the gateway ran on the same cores as the instances, which are busy under load.
    """
    # The system counts processor time in hundredths of a second, so a few requests may seem to take none.
    timed = [request for request in requests if request.gateway_ms > 0]
    # The last column is the work of an idle gateway, including the reads of its metrics. The fewer requests there are
    # in a second, the larger the share of each. It is not part of the cost of a request.
    columns = [[1.0, each.tokens, 1 / each.texts_per_call, 1 / each.per_s] for each in timed] or [[1.0, 0.0, 0.0, 0.0]]
    slower = [engine.slowdown if shared_cores and each.clients > 1 else 1.0 for each in timed]
    taken = [each.gateway_ms / 1e3 / slowdown for each, slowdown in zip(timed, slower, strict=True)] or [1e-6]
    request_s, token_s, call_s, _ = nonnegative(columns, taken)

    def path_of(clients: int, engine_path_s: float, slower: float) -> float:
        def known_s(request: RequestLoad) -> float:
            gateway_s = request_s + token_s * request.tokens + call_s
            return engine_path_s + slower * (gateway_s + engine.call_s + engine.run_s([request.tokens]))

        chosen = [each for each in requests if each.clients == clients]
        return _middle((each.latency_ms["p50"] - each.sender_ms) / 1e3 - known_s(each) for each in chosen)

    path_s = path_of(1, engine.path_s, 1.0)
    busy_path_s = path_of(engine.instances, engine.busy_path_s, engine.slowdown)
    return GatewayCosts(request_s, token_s, call_s, path_s, max(path_s, busy_path_s))


def nonnegative(columns: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Return factors of the columns that minimise the relative errors of their sum; negative factors become 0."""
    wanted = np.asarray(values)
    scaled: NDArray[np.float64] = np.asarray(columns, float) / wanted[:, None]
    kept, factors = list(range(scaled.shape[1])), np.zeros(scaled.shape[1])
    while kept:
        found = np.linalg.lstsq(scaled[:, kept], np.ones(len(wanted)), rcond=None)[0]
        if found.min() >= 0:
            factors[kept] = found
            break
        kept.pop(int(found.argmin()))
    return [float(factor) for factor in factors]


def _under_load(run: EngineCosts, busy: Sequence[CallLoad]) -> tuple[float, float]:
    """Return the slowdown under load, and the cost of a call besides its runs.

    Under load, the instances spend all their time on runs and calls, each of which takes `slowdown` times as long as
    alone.
    """
    runs = [_run_s(run, call, call.rows_per_run) for call in busy]
    calls = [call.rows_per_run / call.rows for call in busy]
    spent = [run.instances * each / call.per_s for each, call in zip(calls, busy, strict=True)]
    slowdown, slow_call_s = nonnegative(list(zip(runs, calls, strict=True)), spent)
    if slowdown < 1:  # runs cannot be faster under load, so the times of lone runs are better measurements
        over = [(all_s - run_s) / each for all_s, run_s, each in zip(spent, runs, calls, strict=True)]
        slowdown, slow_call_s = 1.0, max(0.0, float(np.median(over)))
    return slowdown, slow_call_s / slowdown


def _middle(rests: Iterable[float]) -> float:
    """Return the median of the unexplained parts of latencies; 0 if there are none."""
    found = list(rests)
    return max(0.0, float(np.median(found))) if found else 0.0


def _run_s(run: EngineCosts, call: CallLoad, rows: float) -> float:
    return run.fixed_s + rows * (run.row_s + (run.token_s + run.square_s * call.tokens) * call.tokens)
