#!/bin/bash
export KMP_AFFINITY=granularity=fine,compact,1,0
export KMP_BLOCKTIME=1
export OMP_NUM_THREADS=2
export OMP_PLACES=cores
export OMP_PROC_BIND=true
export TF_ENABLE_ONEDNN_OPTS=1
export TF_NUM_INTEROP_THREADS=1
export TF_NUM_INTRAOP_THREADS=2
mpirun -np 6 -H hostA:2,hostB:2,hostC:2 --map-by ppr:1:socket:pe=2 --bind-to core --report-bindings -x KMP_AFFINITY -x KMP_BLOCKTIME -x OMP_NUM_THREADS -x OMP_PLACES -x OMP_PROC_BIND -x TF_ENABLE_ONEDNN_OPTS -x TF_NUM_INTEROP_THREADS -x TF_NUM_INTRAOP_THREADS python train.py
