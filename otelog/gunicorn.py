"""What gunicorn has to call for otelog, in ``gunicorn.conf.py``::

    from otelog.gunicorn import child_exit

Only `prometheus_client` with several workers needs it: forks, recycling, reload and the end of a worker are seen
without any hook.
"""

from __future__ import annotations

from typing import Any

from otelog._config.resolve import has_metrics_folder

__all__ = ["child_exit"]


def child_exit(server: Any, worker: Any) -> None:
    """Take the gauges of a worker that has ended out of ``/metrics``, in `prometheus_client`'s multi-process mode.

    Does nothing where ``PROMETHEUS_MULTIPROC_DIR`` is not set. gunicorn's master calls it.

    Args:
        server: gunicorn's arbiter.
        worker: The worker; its ``pid`` is used.
    """
    if has_metrics_folder():
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
