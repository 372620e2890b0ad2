"""Finds out which folders of a data set are splits and which are classes.

It opens no file.
"""
