#!/bin/bash
export I_MPI_PIN=on
export I_MPI_PIN_DOMAIN=socket
export I_MPI_PIN_CELL=core
export I_MPI_JOB_RESPECT_PROCESS_PLACEMENT=off
export KMP_AFFINITY=granularity=fine,compact,1,0
export KMP_BLOCKTIME=1
export OMP_NUM_THREADS=24
export OMP_PLACES=cores
export OMP_PROC_BIND=true
export TF_ENABLE_ONEDNN_OPTS=1
export TF_NUM_INTEROP_THREADS=1
export TF_NUM_INTRAOP_THREADS=24
mpirun -n 6 -ppn 2 -hosts hostA,hostB,hostC -print-rank-map -genv I_MPI_PIN on -genv I_MPI_PIN_CELL core -genv I_MPI_PIN_DOMAIN socket -genv KMP_AFFINITY granularity=fine,compact,1,0 -genv KMP_BLOCKTIME 1 -genv OMP_NUM_THREADS 24 -genv OMP_PLACES cores -genv OMP_PROC_BIND true -genv TF_ENABLE_ONEDNN_OPTS 1 -genv TF_NUM_INTEROP_THREADS 1 -genv TF_NUM_INTRAOP_THREADS 24 python train.py
