"""Fits costs to measurements: non-negative least squares of relative errors."""

from __future__ import annotations

from dataclasses import replace
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
    """Return the costs of calls, and the largest relative error of the times of runs of few clients that they give.

    Args:
        calls: Calls of no more clients than instances and calls under load, of texts with equal and with mixed lengths.
        instances: Instances of the encoder.
        max_rows: Most texts of a run.
        shared_cores: Whether the sender of the calls ran on the same cores as the instances.
    """
    few = [call for call in calls if call.clients <= instances]
    alike = [call for call in few if len(set(call.lengths)) == 1]
    measured = [call.run_ms / 1e3 for call in alike]
    fixed_s, row_s, token_s, square_s = nonnegative([_sums(call) for call in alike], measured)
    run = EngineCosts(instances, max_rows, fixed_s, row_s, token_s, square_s, 1.0, 0.0, 0.0, 1.0)
    over = [call.run_ms / 1e3 / _merged_run_s(run, call) for call in few if call not in alike]
    run = replace(run, mixed=max([1.0, *over]))
    off = max(abs(_merged_run_s(run, call) / each - 1) for call, each in zip(alike, measured, strict=True))
    slowdown, call_s = _under_load(run, [call for call in calls if call.clients > instances], shared_cores=shared_cores)
    path_s = _middle(
        (each.latency_ms["mean"] - each.client_ms) / 1e3 - call_s - _merged_run_s(run, each) for each in few
    )
    return replace(run, call_s=call_s, path_s=path_s, slowdown=slowdown), off


def gateway_costs(requests: Sequence[RequestLoad], engine: EngineCosts, *, shared_cores: bool) -> GatewayCosts:
    """Return the costs of requests with one text.

    Args:
        requests: Measurements, of lone requests, after pauses and without, and under load.
        engine: Costs of the Triton behind the gateway.
        shared_cores: Whether the gateway ran on the same cores as the instances, which are busy under load.
    """
    steady = [request for request in requests if not request.pause_ms]
    # The system counts processor time in hundredths of a second, so a few requests may seem to take none.
    timed = [request for request in steady if request.gateway_ms > 0]
    columns = [[1.0, each.tokens, 1 / each.texts_per_call] for each in timed] or [[1.0, 0.0, 0.0]]
    slower = [engine.slowdown if shared_cores and each.clients > 1 else 1.0 for each in timed]
    taken = [each.gateway_ms / 1e3 / slowdown for each, slowdown in zip(timed, slower, strict=True)] or [1e-6]
    request_s, token_s, call_s = nonnegative(columns, taken)

    def rest_of(request: RequestLoad) -> float:
        in_gateway_s = request_s + token_s * request.tokens + call_s
        at_triton_s = engine.path_s + engine.call_s + request.run_ms / 1e3
        return (request.latency_ms["mean"] - request.sender_ms) / 1e3 - in_gateway_s - at_triton_s

    lone = [rest_of(each) for each in steady if each.clients == 1]
    cold_s = _middle(rest_of(each) - float(np.median(lone)) for each in requests if each.pause_ms)
    return GatewayCosts(request_s, token_s, call_s, _middle(lone), cold_s)


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


def _under_load(run: EngineCosts, busy: Sequence[CallLoad], *, shared_cores: bool) -> tuple[float, float]:
    """Return the slowdown under load, and the cost of a call besides its runs.

    Under load, the instances spend all their time on runs and calls, each of which takes `slowdown` times as long as
    alone, and on sending the calls where that shares their cores.
    """
    runs = [_merged_run_s(run, call) / call.calls_per_run for call in busy]
    sent = [call.client_ms / 1e3 if shared_cores else 0.0 for call in busy]
    spent = [max(1e-9, run.instances / call.per_s - client_s) for call, client_s in zip(busy, sent, strict=True)]
    slowdown, slow_call_s = nonnegative([[run_s, 1.0] for run_s in runs], spent)
    if slowdown < 1:  # runs cannot be faster under load, so the times of lone runs are better measurements
        slowdown, slow_call_s = 1.0, _middle(all_s - run_s for all_s, run_s in zip(spent, runs, strict=True))
    return slowdown, slow_call_s / slowdown


def _middle(rests: Iterable[float]) -> float:
    """Return the median of the unexplained parts of latencies; 0 if there are none."""
    found = list(rests)
    return max(0.0, float(np.median(found))) if found else 0.0


def _merged_run_s(run: EngineCosts, call: CallLoad) -> float:
    """Return the seconds of a run of as many calls as were merged on average."""
    return run.fixed_s + (run.run_s(call.lengths) - run.fixed_s) * call.calls_per_run


def _sums(call: CallLoad) -> list[float]:
    """Return what costs of a run are multiplied by: runs, texts, tokens, pairs of tokens."""
    in_call = [len(call.lengths), sum(call.lengths), sum(tokens**2 for tokens in call.lengths)]
    return [1.0, *(call.calls_per_run * each for each in in_call)]
