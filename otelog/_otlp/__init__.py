"""The OTLP exporter: encoding, delivery, and the exchange with a server over HTTP or gRPC."""
