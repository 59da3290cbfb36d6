"""The backend, in the layout of Keras's packages for backends.

`ops` has the functions on tensors, module by module as Keras has them; `random`, `rnn`, `trainer`,
`variable`, `layer` and `export` the rest.  `tensor` and `operation` are what they are written with.
"""
