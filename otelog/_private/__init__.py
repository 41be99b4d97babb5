"""Private names of other libraries that are read: each guarded, with a public way where it is gone.

flask_instrumentation   opentelemetry-instrumentation-flask's
grpc                    grpcio's
opentelemetry           the API's and the SDK's
standard                the standard library's
"""
