"""Aligns the nano model until its reward has risen enough, then samples with the LoRA: align.py [RUN [UPDATES]]"""

import sys

import vggflow

run = sys.argv[1] if len(sys.argv) > 1 else "runs/python"
updates = int(sys.argv[2]) if len(sys.argv) > 2 else 20
seen = []


def watch(update):
    """After every update: print, and end the run once the mean of the last three rewards exceeds the first by 0.3."""
    seen.append(update.reward_mean)
    print(f"update {update.update}/{update.updates}: reward {update.reward_mean:.3f}, {update.seconds:.1f} s")
    return len(seen) > 3 and sum(seen[-3:]) / 3 > seen[0] + 0.3


# The settings of `vggflow align`; small evaluations, since this is a first look.
settings = {"config": "configs/nano.yaml", "batch": 8, "value": {"kind": "none"}, "eval": {"prompts": 8, "images": 2}}
done = vggflow.align(run, updates=updates, on_update=watch, **settings)
print(f"{done.end} after {len(seen)} updates")
if done.end == "stopped":
    # All is saved. With fewer updates asked for, the same run finishes here: LoRA, summary, report.
    done = vggflow.align(run, updates=len(seen), resume=True, **settings)

with vggflow.Model("models/nano", lora=done.lora) as model:
    print("aligned images:", model.sample("red heart", seeds=[0, 1]).shape)
