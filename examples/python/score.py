"""Scores images with a weighted sum of rewards, and picks the best of several seeds: score.py [SEEDS]"""

import sys

import vggflow

seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 8)

with vggflow.Model("models/nano") as model, vggflow.Reward("emoji-clip + 0.05*colorfulness") as reward:
    images = model.sample("red heart", seeds)
    scores = reward.score(images, "red heart")

for seed, score in zip(seeds, scores, strict=True):
    print(f"seed {seed}: {score:.3f}")
best = int(scores.argmax())
print(f"best: seed {seeds[best]} with {scores[best]:.3f}")
