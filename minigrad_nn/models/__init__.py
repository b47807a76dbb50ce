"""Architectures of the lectures, one file a family; start with `lenet5.py`.

Names in lower case make a network; those that torchvision has too have its names, and its state:
`minigrad_nn.io.load_pretrained` reads weights for them.
"""

from .alexnet import AlexNet, AlexNet2014, alexnet
from .attention import AdditiveAttention, DotAttention
from .captioner import AttentionCaptioner, Captioner, attention_penalty, small_encoder
from .char_rnn import CharRNN
from .cifar_resnet import (
    CifarResNet,
    plain20,
    plain32,
    plain44,
    plain56,
    plain110,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from .decoding import Sentence, beam_search, draw_words, greedy_search
from .densenet import DenseNet, densenet121, densenet169, densenet201
from .detector import GridDetector
from .fcn import FCN, fcn8s, fcn16s, fcn32s, fcn_small
from .googlenet import (
    GoogLeNet,
    GoogLeNetOutput,
    Inception,
    auxiliary_cross_entropy,
    googlenet,
    main_logits,
)
from .lenet1 import H3_TABLE, LeNet1
from .lenet5 import C3_TABLE, LeNet5
from .mlp import MLP
from .mobilenet import MobileNet, mobilenet_v1
from .mobilenet_v2 import MobileNetV2, mobilenet_v2
from .neocognitron import Neocognitron
from .perceptron import Perceptron
from .resnet import (
    ResNet,
    plain18,
    plain34,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from .segnet import SegNet, segnet, segnet_small
from .seq2seq import Seq2Seq
from .unet import UNet
from .vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from .voting import Votes, group_votes, vote_targets, voting_loss
from .zfnet import ZFNet

__all__ = [
    "C3_TABLE",
    "FCN",
    "H3_TABLE",
    "MLP",
    "VGG",
    "AdditiveAttention",
    "AlexNet",
    "AlexNet2014",
    "AttentionCaptioner",
    "Captioner",
    "CharRNN",
    "CifarResNet",
    "DenseNet",
    "DotAttention",
    "GoogLeNet",
    "GoogLeNetOutput",
    "GridDetector",
    "Inception",
    "LeNet1",
    "LeNet5",
    "MobileNet",
    "MobileNetV2",
    "Neocognitron",
    "Perceptron",
    "ResNet",
    "SegNet",
    "Sentence",
    "Seq2Seq",
    "UNet",
    "Votes",
    "ZFNet",
    "alexnet",
    "attention_penalty",
    "auxiliary_cross_entropy",
    "beam_search",
    "densenet121",
    "densenet169",
    "densenet201",
    "draw_words",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "fcn_small",
    "googlenet",
    "greedy_search",
    "group_votes",
    "main_logits",
    "mobilenet_v1",
    "mobilenet_v2",
    "plain18",
    "plain20",
    "plain32",
    "plain34",
    "plain44",
    "plain56",
    "plain110",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
    "segnet",
    "segnet_small",
    "small_encoder",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "vote_targets",
    "voting_loss",
]
