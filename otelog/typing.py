"""Types of otelog's own that its users' type checkers see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter

__all__ = ["ConfigureOptions"]


class ConfigureOptions(TypedDict, total=False):
    """The keywords of `otelog.configure`; docs/reference/options.md says what each does. None is "not given"."""

    # tools/update_docs.py writes them, from the table of options.

    config_file: str | PathLike[str] | None
    service_name: str | None
    service_version: str | None
    service_namespace: str | None
    deployment_environment: str | None
    resource_attributes: Mapping[str, Any] | None
    level: int | str | None
    exporters: Sequence[str | LogRecordExporter | Mapping[str, Any]] | None
    endpoint: str | None
    protocol: Literal["http/protobuf", "grpc"] | None
    headers: Mapping[str, str] | None
    compression: Literal["gzip", "zstd", "none"] | None
    timeout: float | None
    certificate_file: str | PathLike[str] | None
    client_certificate_file: str | PathLike[str] | None
    client_key_file: str | PathLike[str] | None
    proxy: str | None
    max_request_bytes: int | None
    exporter: LogRecordExporter | None
    bisect_failed_exports: bool | None
    max_queue_size: int | None
    max_queue_bytes: int | None
    max_export_batch_size: int | None
    schedule_delay_millis: float | None
    export_timeout_millis: float | None
    when_full: Literal["drop_newest", "drop_oldest", "block"] | None
    block_timeout: float | None
    reserve_for_errors: float | None
    code_attributes: bool | None
    thread_attributes: bool | None
    message_template: bool | None
    max_attributes: int | None
    max_attribute_length: int | None
    install_handler: bool | None
    capture_non_propagating: bool | None
    replace_console_handler: bool | None
    direct_logging: bool | None
    handle_sigterm: bool | None
    handle_exit: bool | None
    shutdown_timeout: float | None
    file_folder: str | PathLike[str] | None
    file_level: int | str | None
    file_max_bytes: int | None
    file_interval: float | None
    file_daily: bool | None
    file_compression: Literal["gzip", "zstd", "none"] | None
    file_max_files: int | None
    file_max_age_days: float | None
    file_max_total_bytes: int | None
    file_per_process: bool | None
    file_ai_loggers: Sequence[str] | None
    file_ai_only: bool | None
    file_ai_max_bytes: int | None
    file_ai_max_files: int | None
    console_stream: Literal["stderr", "stdout"] | None
    console_format: Literal["auto", "readable", "json"] | None
    console_level: int | str | None
