#!/bin/bash
export KMP_AFFINITY=granularity=fine,compact,1,0
export KMP_BLOCKTIME=1
export OMP_NUM_THREADS=10
export OMP_PLACES=cores
export OMP_PROC_BIND=true
export TF_ENABLE_ONEDNN_OPTS=1
export TF_NUM_INTEROP_THREADS=1
export TF_NUM_INTRAOP_THREADS=10
horovodrun --mpi -np 8 -H hostA:4,hostB:4 --binding-args='--map-by ppr:2:socket:pe=10 --bind-to core' --mpi-args=--report-bindings python train.py
