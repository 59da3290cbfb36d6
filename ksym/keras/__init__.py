"""The modules behind `ksym.backend`: Keras's conventions, in terms of ksym's operators.

There is one file for each topic of Keras.  They know what Keras means by its arguments and nothing
of MXNet.  Keras's own documentation of ``keras.backend`` describes arguments and results of each
function; the docstrings here say what is particular to this backend.
"""
