#!/bin/sh
# Before every start, as root without a network: owners of the named volumes, which arrive owned by root; Grafana's admin
# password, on the first start only; and a private copy of each secret for the one program that reads it.
set -eu
umask 077

COLLECTOR=10001:10001
LOKI=10001:10001
PROMETHEUS=65534:65534
ALERTMANAGER=65534:65534
GRAFANA=472:0
DEMO=10002:10002

refuse() {
  echo "init: $1" >&2
  exit 1
}

# give OWNER FOLDER
give() {
  [ "$(stat -c %u:%g "$2")" = "$1" ] || chown -R "$1" "$2"
}

# publish OWNER FILE: the finished FILE.new becomes FILE, at once, readable by its owner alone.
publish() {
  chmod 0400 "$2.new"
  chown "$1" "$2.new"
  mv -f "$2.new" "$2"
}

# copy OWNER SECRET FILE: an empty secret is one that is not wanted, and leaves nothing of before.
copy() {
  if [ -s "/run/secrets/$2" ]; then
    cat "/run/secrets/$2" > "$3.new"
    publish "$1" "$3"
  else
    rm -f "$3"
  fi
}

# With a strict umask they would be the user's alone, and each server would fail in words of its own.
unreadable=$(find /etc/otelog/collector /etc/otelog/dashboards \( -type d ! -perm -005 \) -o \
  \( -type f ! -name webhook-url ! -perm -004 \) | head -n 1)
[ -z "$unreadable" ] || refuse "${unreadable#/etc/otelog/} is not readable to all: chmod -R a+rX collector dashboards"

cd /volumes
give $COLLECTOR collector
give $LOKI loki
give $PROMETHEUS prometheus
give $ALERTMANAGER alertmanager
give $GRAFANA grafana
# Their readers may enter; what is in them belongs to one reader each.
chmod 0755 collector-secrets grafana-secrets demo-secrets alertmanager-config

[ -z "$TOKEN_WANTED" ] || [ -s /run/secrets/token ] || refuse "OTELOG_TOKEN_FILE is empty"
if [ -n "$TLS_WANTED" ]; then
  [ -s /run/secrets/certificate ] || refuse "TLS needs a certificate: OTELOG_TLS_CERTIFICATE is not set or empty"
  [ -s /run/secrets/key ] || refuse "TLS needs a key: OTELOG_TLS_KEY is not set or empty"
fi
[ -z "$CLIENT_CA_WANTED" ] || [ -s /run/secrets/client-ca ] || refuse "OTELOG_TLS_CLIENT_CA is empty"
copy $COLLECTOR token collector-secrets/token
copy $COLLECTOR certificate collector-secrets/certificate.pem
copy $COLLECTOR key collector-secrets/key.pem
copy $COLLECTOR client-ca collector-secrets/client-ca.pem
copy $DEMO token demo-secrets/token
copy $DEMO demo-ca demo-secrets/ca.pem
copy $DEMO demo-certificate demo-secrets/certificate.pem
copy $DEMO demo-key demo-secrets/key.pem

# Alertmanager looks for the file webhook-url in its working directory, beside its configuration.
if [ -s /run/secrets/receivers ]; then
  # The integrations of its last receiver are another file's.
  sed '/^  - name: people$/q' /etc/otelog/collector/alertmanager.yaml > alertmanager-config/alertmanager.yaml.new
  sed 's/^/    /' /run/secrets/receivers >> alertmanager-config/alertmanager.yaml.new
else
  cat /etc/otelog/collector/alertmanager.yaml > alertmanager-config/alertmanager.yaml.new
fi
publish $ALERTMANAGER alertmanager-config/alertmanager.yaml
copy $ALERTMANAGER webhook-url alertmanager-config/webhook-url
if [ ! -s grafana-secrets/admin-password ]; then
  head -c 24 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' > grafana-secrets/admin-password.new
  [ "$(wc -c < grafana-secrets/admin-password.new)" -eq 32 ] || refuse "no password could be made from /dev/urandom"
  publish $GRAFANA grafana-secrets/admin-password
  echo "init: made Grafana's password; docker compose exec grafana cat /run/otelog/admin-password"
fi
