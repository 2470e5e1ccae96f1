#!/bin/bash
# A luhuo run on a Slurm cluster. Every line with "SET" is yours to fill in; then:
#   sbatch jobs/slurm.sh recipes/base.yaml --out runs/base
# The run saves and leaves with 75 when its time is nearly up or the job is preempted, and is queued again.
# 在 Slurm 集群上运行 luhuo；标有 SET 的行请自行填写。时限将至或被抢占时，运行会保存并以 75 退出，随后自动重新排队。
#SBATCH --job-name=luhuo
#SBATCH --nodes=2                 # SET
#SBATCH --ntasks-per-node=1       # one launcher a machine; it starts a process for each GPU
#SBATCH --gpus-per-node=8         # SET
#SBATCH --cpus-per-task=64        # SET
#SBATCH --time=24:00:00           # SET
#SBATCH --signal=B:TERM@300       # SIGTERM to this script 300 s before the time is up
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=luhuo-%j.log
set -uo pipefail

if [ "$#" -eq 0 ]; then
    echo "usage: sbatch jobs/slurm.sh RECIPE.yaml [--out DIR] [KEY=VALUE ...]" >&2
    exit 2
fi

processes=${SLURM_GPUS_ON_NODE:-1}
export MASTER="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):${MASTER_PORT:-29500}"

# $SLURM_NODEID is that of each task: the launcher must expand it, not this script.
srun --kill-on-bad-exit=0 bash -c '
    exec python -m luhuo.launch --processes "$0" --nodes "$SLURM_NNODES" --node "$SLURM_NODEID" \
        --master "$MASTER" -- run "$@"
' "$processes" "$@" &
step=$!
trap 'kill -TERM "$step"' TERM
wait "$step"
code=$?
if kill -0 "$step" 2>/dev/null; then  # the wait ended because of the signal: now for the step itself
    wait "$step"
    code=$?
fi

if [ "$code" -eq 75 ]; then
    echo "luhuo: interrupted and saved, queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
