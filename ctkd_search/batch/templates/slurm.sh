#!/bin/bash
# Search {{ name }} on {{ machines }}, written by ctkd-search {{ version }}.
# Submitted again, or requeued by Slurm, the job goes on with the search where it was interrupted.
#SBATCH --job-name={{ name }}
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes={{ nodes }}
#SBATCH --ntasks-per-node=1
{% if gpus %}
#SBATCH --gpus-per-node={{ gpus }}
{% endif %}
{% if cpus %}
#SBATCH --cpus-per-task={{ cpus }}
{% endif %}
{% if memory %}
#SBATCH --mem={{ memory }}
{% endif %}
{% if nodes > 1 %}
# Whole machines: two clusters of Ray on one machine would meet each other.
#SBATCH --exclusive
{% endif %}
#SBATCH --time={{ time }}
# This long before the time is over, this script is told so.
#SBATCH --signal=B:USR1@{{ grace }}
#SBATCH --requeue
{% for option in options %}
#SBATCH {{ option }}
{% endfor %}

# Functions that are called by signals:
# shellcheck disable=SC2329
set -u
cd {{ directory | quote }} || exit 1
export PATH={{ path | quote }}:"$PATH"
{% if setup %}
# Hooks of conda and functions of module read variables that are not set.
set +u
{% for line in setup %}
{{ line }}
{% endfor %}
set -u
{% endif %}

trials={{ trials | quote }}
name={{ name | quote }}
search=({{ search }})
if ctkd-search show "$name" --trials-dir "$trials" > /dev/null 2>&1; then
    search+=(--resume)
fi

# On the disk of each machine, and short: a socket's path has at most 107 bytes.
export RAY_TMPDIR=/tmp/ctkd-ray-$SLURM_JOB_ID
rm -rf "$RAY_TMPDIR"
mkdir -m 700 "$RAY_TMPDIR" || exit 1
# The number of the search's process, by which it is told to stop.
export pid_file=$RAY_TMPDIR/search.pid

job=
deadline=
stop() {
    if [ -s "$pid_file" ]; then
        kill -TERM "$(cat "$pid_file")"
    elif [ -n "$job" ]; then
        kill -TERM "$job"
    else
        exit 143
    fi
}
on_limit() {
    echo "the time is nearly over: the search is interrupted"
    deadline=$((SECONDS + {{ patience }}))
    stop
}
requeue() {
    if [ "${SLURM_RESTART_COUNT:-0}" -lt {{ requeues }} ]; then
        echo "the job is requeued, and goes on with the search then"
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "the job has been requeued {{ requeues }} times; submit it again to go on"
    fi
}
trap on_limit USR1
trap stop TERM INT

{% if nodes == 1 %}
"${search[@]}" &
echo "$!" > "$pid_file"
{% else %}
# This script runs on the first machine, where Ray's head and the search run too.
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(getent ahostsv4 "$host" | awk '$1 !~ /^127[.]/ {print $1; exit}')
ip=${ip:-$(hostname -I | awk '{print $1}')}
address=$ip:$((20000 + SLURM_JOB_ID % 10000))
# With this token only processes of this job join its Ray.
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export address RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600 RAY_USAGE_STATS_ENABLED=0

machine=$(cat << 'MACHINE'
# The first machine has this directory already.
mkdir -m 700 "$RAY_TMPDIR" 2> /dev/null || [ -O "$RAY_TMPDIR" ] || exit 1
ray symmetric-run --address "$address" --min-nodes {{ nodes }} \
    --num-cpus "$SLURM_CPUS_ON_NODE" --num-gpus {{ gpus }} \
    -- bash -c 'echo "$$" > "$pid_file"; exec "$@"' search "$@" --address "$address"
status=$?
rm -rf "$RAY_TMPDIR"
exit "$status"
MACHINE
)
# When the search ends on the first machine, the others notice within a minute that Ray has ended.
srun --cpu-bind=none --wait=180 bash -c "$machine" machine "${search[@]}" &
{% endif %}
job=$!

while kill -0 "$job" 2> /dev/null; do
    if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
        # The search has not stopped in time. It is ended with the job, and goes on from its last epochs.
        requeue
        exit 130
    fi
    sleep 2 &
    wait "$!"
done
wait "$job"
status=$?
rm -rf "$RAY_TMPDIR"
if [ -n "$deadline" ] && [ "$status" -ne 0 ]; then
    requeue
fi
exit "$status"
