"""Annotation files in COCO's format: read, checked against their images, summed up and repaired."""
