"""Running graphs on MXNet: the only room that imports mxnet."""
