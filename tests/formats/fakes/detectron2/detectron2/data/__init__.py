"""FAKE of detectron2.data."""
