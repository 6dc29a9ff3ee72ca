"""OpenTelemetry of the load generator: spans, logs and metrics as the demo's own locustfile sends them, without its flags.

In: the standard environment variables of OpenTelemetry. Out: `task_span`, around every task. Where no collector is named nothing is set up,
and the span is none.

The demo's own file puts OpenFeature's hooks into its spans, which tell what a flag says: a gym's policy would read of a fault there.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ("task_span",)


@contextmanager
def _no_span(_: str) -> Iterator[None]:
    yield


def _instrumented() -> Callable[[str], AbstractContextManager[object]]:
    from opentelemetry import trace
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.logging import LoggingInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor
    from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
    from opentelemetry.metrics import set_meter_provider
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider()
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(insecure=True)))
    set_logger_provider(loggers)
    root = logging.getLogger()
    root.addHandler(LoggingHandler(level=logging.INFO, logger_provider=loggers))
    root.setLevel(logging.INFO)
    set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(insecure=True))]))
    LoggingInstrumentor().instrument(set_logging_format=True)
    RequestsInstrumentor().instrument()
    SystemMetricsInstrumentor().instrument()
    URLLib3Instrumentor().instrument()
    tracer = trace.get_tracer("locustfile")

    def span(name: str) -> AbstractContextManager[object]:
        return tracer.start_as_current_span(name, context=Context())  # a trace of its own

    return span


task_span = _instrumented() if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") else _no_span
