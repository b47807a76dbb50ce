"""Numbers that say how good predictions are.

Start at `classes.py`: which class was named.  `boxes.py` and `regions.py` measure overlap,
`detection.py` judges lists of found things by it, and `sentences.py` compares words.
"""

from minigrad_nn.metrics.boxes import box_iou, nms, paired_box_iou
from minigrad_nn.metrics.classes import (
    accuracy,
    average_precision,
    confusion_matrix,
    mean_average_precision,
    topk_accuracy,
)
from minigrad_nn.metrics.detection import detection_ap, mean_detection_ap
from minigrad_nn.metrics.regions import mask_iou, mean_iou, region_iou
from minigrad_nn.metrics.sentences import bleu, exact_match, ngram_precision, word_accuracy

__all__ = [
    "accuracy",
    "average_precision",
    "bleu",
    "box_iou",
    "confusion_matrix",
    "detection_ap",
    "exact_match",
    "mask_iou",
    "mean_average_precision",
    "mean_detection_ap",
    "mean_iou",
    "ngram_precision",
    "nms",
    "paired_box_iou",
    "region_iou",
    "topk_accuracy",
    "word_accuracy",
]
