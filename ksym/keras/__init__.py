"""The rooms behind `ksym.backend`: Keras's conventions, in terms of ksym's operators.

One file for each of Keras's topics.  They know what Keras means by its arguments and nothing of
MXNet.  What each function takes and returns is Keras's own documentation of ``keras.backend``; the
docstrings here say what is particular.
"""
