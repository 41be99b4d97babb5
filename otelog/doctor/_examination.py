"""The examination: what is looked at, in which order, and where it is found."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from otelog._config.resolve import ExporterSettings, Settings, list_variables, resolve
from otelog._setup.configure import stats
from otelog._setup.state import settings_in_force
from otelog.doctor._asgi_request import is_asgi
from otelog.doctor._doubles import check_handlers
from otelog.doctor._endpoint import check_endpoints
from otelog.doctor._findings import Area, Finding, Report, make_area
from otelog.doctor._flask_applications import check_instrumentation, find_applications, is_flask
from otelog.doctor._limits import check_limits
from otelog.doctor._loggers import check_loggers
from otelog.doctor._other_applications import check_celery, check_django, has_django_handler, is_celery, is_django
from otelog.doctor._packages import check_packages, look_at_packages
from otelog.doctor._providers import check_providers, look_at_providers
from otelog.doctor._settings import check_settings, list_targets, refuse_settings
from otelog.doctor._ways import find_listeners
from otelog.exceptions import ConfigurationError


def examine(*, canary: bool = True, timeout: float = 5.0) -> Report:
    """Examine this process: settings, packages, providers, loggers, handlers, limits, applications, and the endpoint.

    It changes nothing, and is meant for a shell or a health page of a running application; `otelog doctor` calls it
    for one that it has imported. With the canary it waits for the endpoint's answer in the calling thread.

    Args:
        canary: Whether one record is sent to each OTLP endpoint, to see whether it is taken. It is not in the ledger.
        timeout: Seconds that each endpoint may take.

    Returns:
        What was seen; `ok` says whether there is no error, `to_dict()` is JSON-ready.

    Never raises for what it finds. Thread safety: any thread.
    """
    settings = settings_in_force()
    areas: list[Area] = []
    if settings is None:
        areas.append(make_area("application", [], [_not_configured()]))
        try:
            settings = resolve({})
        except ConfigurationError as error:
            return Report((*areas, make_area("settings", [], [refuse_settings(error)])))
    areas += [*examine_settings(settings), *examine_process(settings), *_examine_applications()]
    return Report((*areas, *_ask(settings, canary, timeout)))


def examine_settings(settings: Settings) -> Iterator[Area]:
    """Examine what was asked for, and what is installed for it.

    Args:
        settings: In force, or as they will be.
    """
    variables = list_variables()
    try:
        from_environment: Settings | None = resolve({})
    except ConfigurationError:
        from_environment = None
    yield check_settings(settings, variables, from_environment)
    yield check_packages(look_at_packages(), variables)
    yield check_providers(look_at_providers(configured=settings_in_force() is not None), settings)


def examine_process(settings: Settings) -> Iterator[Area]:
    """Examine the process's logging tree and its ledger, once `otelog.configure` has been called.

    Args:
        settings: In force.
    """
    if settings_in_force() is None or settings.sdk_disabled:
        return
    root, listeners = logging.getLogger(), find_listeners()
    yield check_loggers(root, level=settings.level, handler_wanted=settings.install_handler, listeners=listeners)
    yield check_handlers(root, listeners=listeners)
    yield check_limits(stats())


def examine_endpoints(settings: Settings, timeout: float) -> Area:
    """Send a canary to each OTLP endpoint of the settings.

    Args:
        settings: In force, or as they will be.
        timeout: Seconds that each endpoint may take.
    """
    targets = [(name, one) for name, one in list_targets(settings) if isinstance(one, ExporterSettings)]
    return check_endpoints(targets, settings.resource_attributes, timeout)


def examine_application(app: object, request: str | None) -> Area:
    """Examine an application, once `otelog.configure` has been called.

    Args:
        app: Flask's, Django's, Celery's, ASGI's, or another.
        request: A path to ask it for; None: nothing is asked.
    """
    facts: list[str] = []
    findings: list[Finding] = []
    if is_flask(app):
        findings += check_instrumentation(app, facts)
    elif is_django(app):
        findings += check_django(facts)
    elif is_celery(app):
        findings += check_celery(app, facts)
    elif request is None or not is_asgi(app):
        kind = type(app)
        facts.append(f"{kind.__module__}.{kind.__qualname__} is not Flask's: its requests are not looked at")
    if request is not None:
        # Late: it brings the tools for tests along.
        from otelog.doctor._request import check_request

        findings += check_request(app, request, facts)
    return make_area("application", facts, findings)


def _examine_applications() -> Iterator[Area]:
    facts: list[str] = []
    findings = [finding for app in find_applications() for finding in check_instrumentation(app, facts)]
    if has_django_handler():
        findings += check_django(facts)
    if facts or findings:
        yield make_area("application", facts, findings)


def _ask(settings: Settings, canary: bool, timeout: float) -> Iterator[Area]:
    if canary and not settings.sdk_disabled:
        yield examine_endpoints(settings, timeout)


def _not_configured() -> Finding:
    return Finding(
        "error",
        "application.not_configured",
        "otelog",
        "otelog.configure() has not been called in this process: no record is exported",
        "call it where the application begins, or start it with `otelog run`",
    )
