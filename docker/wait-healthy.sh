#!/usr/bin/env bash
# Wait until all containers that are up are healthy: wait-healthy.sh docker compose
set -euo pipefail
deadline=$((SECONDS + 120))
for container in $("$@" ps --quiet master worker history); do
  until [ "$(docker inspect --format '{{.State.Health.Status}}' "$container")" = healthy ]; do
    if ((SECONDS > deadline)); then
      echo "error: $(docker inspect --format '{{.Name}}' "$container" | tr -d /) is not healthy after two minutes:" >&2
      docker logs --tail 5 "$container" >&2
      exit 1
    fi
    sleep 0.5
  done
  docker inspect --format '{{.Name}} is healthy' "$container" | tr -d /
done
echo "master http://$("$@" port master 8080), history http://$("$@" port history 18080)"
