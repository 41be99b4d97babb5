#!/bin/sh
# The shop of the demo, with the bearer token of a file: a token in the container's environment would be in `docker inspect`.
set -eu
if [ -s /run/otelog/token ]; then
  token=$(python -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.stdin.readline().strip(), safe=""))' \
    < /run/otelog/token)
  export OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20$token"
fi
exec python -m otelog.cli.demo.shop_server "$@"
