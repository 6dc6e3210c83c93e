#!/usr/bin/env python3
"""Reads an event folder with the real TensorBoard and checks its tags: more of them are scalars or texts.
Usage: tensorboard_reads.py FOLDER scalar_tag image_tag [tag ...]"""
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder, scalar, image = sys.argv[1:4]
events = EventAccumulator(folder, size_guidance={"images": 0, "scalars": 0})
events.Reload()
tags = events.Tags()
if scalar not in tags["scalars"] or image not in tags["images"]:
    sys.exit(f"expected the scalar {scalar} and the image {image}, got {tags['scalars']} and {tags['images']}")
for tag in sys.argv[4:]:
    if tag in tags["scalars"]:
        continue
    if tag not in tags["tensors"]:
        sys.exit(f"expected {tag}, got the scalars {tags['scalars']} and the texts {tags['tensors']}")
    text = events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
    if not text or events.SummaryMetadata(tag).plugin_data.plugin_name != "text":
        sys.exit(f"{tag} is no text")
last = events.Images(image)[-1]
if not last.encoded_image_string.startswith(b"\x89PNG"):
    sys.exit(f"the image {image} is no PNG")
print(f"{len(tags['scalars'])} scalars, {len(events.Images(image))} images of {last.width}x{last.height}, "
      f"{scalar} = {[e.value for e in events.Scalars(scalar)]}")
