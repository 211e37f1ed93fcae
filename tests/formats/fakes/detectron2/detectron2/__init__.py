"""FAKE of Detectron2, which is in no package index: a "network" that finds one box, of the bright part of an image.

It has the calls that the runtime makes: https://detectron2.readthedocs.io/en/latest/
"""
