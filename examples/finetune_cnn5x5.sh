# 5x5 CNN of shinjitsue on Fashion-MNIST, trained for the errors of a chip: sh examples/finetune_cnn5x5.sh WEIGHTS.safetensors
set -e
hil import "$1" --arch fmnist_cnn5x5 --data fashion-mnist --images 512 -o fm.pt
hil calibrate --port "emulated:lab-128?seed=7001" -o rec.h5
hil finetune fm.pt --data fashion-mnist --calibration rec.h5 --epochs 3 -o fm_tuned.pt
hil simulate fm_tuned.pt --calibration rec.h5 --data fashion-mnist --samples 2000 --chips 4 --seed 9 --mode fast
