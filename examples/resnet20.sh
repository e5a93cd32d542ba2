# ResNet-20 of akamaster on CIFAR-10, downloaded, imported and deployed on an emulated chip: sh examples/resnet20.sh
set -e
curl -LO https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/resnet20-12fca82f.th
hil doctor --download cifar10
hil import resnet20-12fca82f.th --trust-model --data cifar10 --images 128 -o r20.pt
hil deploy r20.pt --emulated --data cifar10
